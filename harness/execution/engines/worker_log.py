"""What the log of a worker ends with, for a message."""

from __future__ import annotations

import re
from pathlib import Path

_LAST_LINE = re.compile(r"[^\n]*\S[^\n]*\s*\Z")
_BYTES = 2000  # of the end of a log that are read
_SHOWN = 300  # characters


def describe_log(path: Path) -> str:
    """Return a clause with the path of a log and the last line in it that is not blank."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return f"its log {path} does not exist"
    found = _LAST_LINE.search(text)
    if found is None:
        return f"its log {path} is empty"
    return f"its log {path} ends with: {' '.join(found.group().split())[:_SHOWN]}"
