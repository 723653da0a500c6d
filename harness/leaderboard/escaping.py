"""Plain text escaped for markdown and LaTeX, on one line and without control characters."""

from __future__ import annotations

import re

from harness.text import plain_line

_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: f"\\{c}" for c in "\\`*[]|~$#"}})
_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "{}$&#_%"},
        **{c: f"{{{c}}}" for c in "[]*\"'`"},
        "|": r"\textbar{}",
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{"±": r"$\pm$", "−": "$-$", "·": r"$\cdot$", "√": r"$\surd$", "≤": r"$\leq$", "²": "$^2$", "′": "$'$"},
        **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$\dagger$", "‡": r"$\ddagger$", "—": "---", "β": r"$\beta$"},
    }
)


def markdown(text: str) -> str:
    """Return text escaped for GitHub's markdown. An underscore inside a word has no meaning there and stays."""
    escaped = plain_line(text).translate(_MARKDOWN)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)


def latex(text: str) -> str:
    """Return text escaped for LaTeX, with a minus sign before a negative number."""
    escaped = plain_line(text).translate(_LATEX)
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)
