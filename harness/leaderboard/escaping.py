"""Plain text escaped for markdown, on one line and without control characters. `tex` escapes for LaTeX."""

from __future__ import annotations

import re

from harness.text import plain_line

_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: f"\\{c}" for c in "\\`*[]|~$#"}})


def markdown(text: str) -> str:
    """Return text escaped for GitHub's markdown. An underscore inside a word has no meaning there and stays."""
    escaped = plain_line(text).translate(_MARKDOWN)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)
