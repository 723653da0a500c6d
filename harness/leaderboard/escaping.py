"""Text that steers nothing: escaped for markdown and LaTeX, and stripped of what a terminal or a reader would obey."""

from __future__ import annotations

import re

from harness.text import plain_line

_MARKDOWN_SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: f"\\{c}" for c in "\\`*[]|~$#"}}
_LATEX_SPECIAL = {
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


def markdown(text: str) -> str:
    """Escape for GitHub's markdown; an underscore inside a word means nothing there and stays as it is."""
    escaped = "".join(_MARKDOWN_SPECIAL.get(c, c) for c in plain_line(text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)


def latex(text: str) -> str:
    """Escape for LaTeX, minus signs of numbers as such."""
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", "".join(_LATEX_SPECIAL.get(c, c) for c in plain_line(text)))
