"""A file of JSON lines that loses no line when its process is killed. Imports nothing but the standard library."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def append_line(path: Path, line: Line) -> None:
    """Append a line; when this returns, the line is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a file, none if it does not exist. A last line that was cut off is left out, and ended.

    A process that is killed while it writes cuts its line off; the next one must not continue it.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        complete = text[: text.rfind("\n") + 1]
        path.write_text(complete, encoding="utf-8")
        text = complete
    lines = []
    for row in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(row))
    return lines
