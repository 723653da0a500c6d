"""Text for terminals and pages: errors on one line, without control characters. Imports nothing of the project."""

from __future__ import annotations

import json
import traceback
import unicodedata
from pathlib import Path

_MAX_CHARACTERS = 500  # of an error's message; a plugin's may be of any length


def single_line(text: str) -> str:
    """Return text on one line, with every character that is not printable replaced by U+FFFD."""
    characters = []
    for character in " ".join(text.split()):
        characters.append(character if character.isprintable() else "\ufffd")
    return "".join(characters)


def escape_unprintable(text: str) -> str:
    """Return text with every character that is not printable replaced by a Python escape sequence."""
    characters = []
    for character in text:
        if not character.isprintable():
            character = character.encode("unicode_escape", "backslashreplace").decode("ascii")
        characters.append(character)
    return "".join(characters)


def plain_line(text: str) -> str:
    """Return one line of text for tables and pages, with the letters of every script.

    Control characters and line breaks become spaces. Format characters, such as direction marks, and surrogates become U+FFFD.
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


def printable_json(text: str) -> str:
    """Return JSON text with each character that is not printable as an escape sequence of JSON. Line feeds stay."""
    lines = []
    for line in text.split("\n"):
        if not line.isprintable():
            line = "".join([character if character.isprintable() else json.dumps(character)[1:-1] for character in line])
        lines.append(line)
    return "\n".join(lines)


def describe_error(error: BaseException) -> str:
    """Return the type, the message, and the file and line of an error, on one line.

    Of an error of pydantic, which takes several lines with links, it is the first problem.
    """
    try:
        text = single_line(_message(error))
    except Exception:  # the __str__ of a plugin's exception may raise anything
        text = "(its message cannot be read)"
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}… ({len(text)} characters)"
    separator = ": " if text else ""
    return f"{type(error).__name__}{separator}{text}{_location(error)}"


def _message(error: BaseException) -> str:
    """Return an error's message."""
    if type(error).__module__.startswith("pydantic") and hasattr(error, "errors") and hasattr(error, "title"):
        problem = error.errors(include_url=False)[0]
        path = ".".join(str(step) for step in (error.title, *problem["loc"]))
        return f"{path}: {problem['msg']}"
    return str(error)


def _location(error: BaseException) -> str:
    """Return the file and line of an error's innermost frame in parentheses; nothing for an error that was not raised."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"


def byte_count(count: float) -> str:
    """Return a number of bytes with a unit: `12 B`, `3.4 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    count /= 1024
    return f"{count:.1f} TiB"
