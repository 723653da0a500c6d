"""A file of JSON lines that loses no line when its process is killed. Imports nothing but the standard library."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def append_line(path: Path, line: Line) -> None:
    """Append a line; when this returns, the line is on the disk. A last line that was cut off is ended first."""
    separator = "" if _is_ended(path) else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(separator + json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _is_ended(path: Path) -> bool:
    """Return whether a file is empty, missing, or ends with the end of a line."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a file, none if it does not exist. Lines that were cut off when a process was killed are left out."""
    if not path.exists():
        return []
    lines = []
    for row in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(row))
    return lines
