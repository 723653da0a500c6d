"""Values and key paths in messages: on one line, shortened, in YAML's notation."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from harness.benchmark.problems import KeyPath
from harness.errors import did_you_mean

MAX_LENGTH = 60
SHORTENED_LENGTH = 40
MAX_ITEMS = 10


def format_value(value: Any) -> str:
    """Return a value on one line, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return _format_non_finite(value)
    if isinstance(value, str):
        return _format_text(value)
    if isinstance(value, Mapping):
        noun = "key" if len(value) == 1 else "keys"
        return f"a mapping of {len(value)} {noun}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return _format_list(value)
    return repr(value)[:MAX_LENGTH]


def _format_non_finite(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    return ".inf" if value > 0 else "-.inf"


def _format_text(text: str) -> str:
    if len(text) <= MAX_LENGTH:
        return repr(text)
    return f"{text[:SHORTENED_LENGTH]!r}… ({len(text)} characters)"


def _format_list(values: Collection[Any]) -> str:
    if len(values) <= MAX_ITEMS:
        listed = ", ".join(map(format_value, values))
        if len(listed) <= MAX_LENGTH:
            return f"[{listed}]"
    return f"a list of {len(values)} values"


def format_key(key: str) -> str:
    """Return a key without quotes; a long or unprintable key is quoted and shortened."""
    if key.isprintable() and len(key) <= MAX_LENGTH:
        return key
    return _format_text(key)


def format_path(path: KeyPath) -> str:
    """Return a key path such as `recipe.betas[1]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{format_key(step)}"
    return text.removeprefix(".")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the message about an unknown key, with the nearest known one."""
    return f"unknown key {format_value(key)}{did_you_mean(key, known)}"
