"""Texts without absolute paths, which name folders and users of the machine that a bundle was made on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_END = r"[^\s'\"`,;:()\[\]{}<>|]*"
_START = r"(?<![\w.:/\\~…-])"  # a path begins at the start of a text, or after a space, a quote, `=` and the like
_QUOTED = re.compile(r"(['\"`])((?:~[\w.-]*)?/[^'\"`\n]+|[A-Za-z]:[\\/][^'\"`\n]+)\1")
_URL = re.compile(r"file://" + _END)
_WINDOWS = re.compile(_START + r"(?:[A-Za-z]:[\\/]|\\\\)" + _END)
_POSIX = re.compile(_START + r"(?:~[\w.-]*)?/(?![/\s])" + _END)
_PATH = re.compile(r"(~[\w.-]*)?/.")
_PROSE = re.compile(r"[:;,] |\n")


def scrub_text(text: str) -> str:
    """Return a text in which only the last part of every absolute path is left: `/home/me/runs/a` becomes `…/a`."""
    if _PATH.match(text) and not _PROSE.search(text):
        return _last_part(text)  # the whole text is a path, perhaps one with spaces
    text = _QUOTED.sub(lambda found: f"{found[1]}{_last_part(found[2])}{found[1]}", text)
    for pattern in (_URL, _WINDOWS, _POSIX):
        text = pattern.sub(lambda found: _last_part(found[0]), text)
    return text


def _last_part(path: str) -> str:
    kind = PurePosixPath if "/" in path else PureWindowsPath
    name = kind(path).name
    return f"…/{name}" if name else "…"


def scrub(value: Any) -> Any:
    """Return a JSON value with all its texts scrubbed; names of fields are left."""
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, Mapping):
        return {name: scrub(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return value
