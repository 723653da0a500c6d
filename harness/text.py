"""Text for people: errors in a line, and text of strangers that steers no terminal. Imports nothing of the project."""

from __future__ import annotations

import traceback
import unicodedata
from pathlib import Path

_MAX_CHARACTERS = 500  # of a message that a plugin may put on a board


def single_line(text: str) -> str:
    """Return text without line breaks, and without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def escape_unprintable(text: str) -> str:
    """Return text with escape sequences in the place of characters that would steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text)


def plain_line(text: str) -> str:
    """Return one line of text for tables and pages, which keeps letters of every script.

    Control characters and line breaks become spaces; invisible ones, direction marks among them, become U+FFFD.
    """
    characters = []
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            character = " "
        elif category in ("Cf", "Cs"):
            character = "\ufffd"
        characters.append(character)
    return " ".join("".join(characters).split())


def plain_lines(text: str) -> str:
    """Return text of several lines for pages, with U+FFFD for control characters and invisible ones. Line feeds stay."""
    characters = []
    for character in text:
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            character = "\ufffd"
        characters.append(character)
    return "".join(characters)


def describe_error(error: BaseException) -> str:
    """Return type, message and place of an error, on one line."""
    try:
        text = single_line(str(error))
    except Exception:  # a plugin's exception may fail at this too
        text = "(its message cannot be read)"
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}… ({len(text)} characters)"
    separator = ": " if text else ""
    return f"{type(error).__name__}{separator}{text}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return the file and line of an error's innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
