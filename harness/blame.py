"""Whose fault an error is: which plugin and hook it came from, and whether memory ran out; and how such words are printed.
Knows no plugin and no torch."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError, PluginFailed

_LONGEST = 500  # characters of a message that a plugin may put on a board
_EXHAUSTED = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")  # torch's own RuntimeErrors


@contextlib.contextmanager
def blamed(plugin: str, hook: str) -> Iterator[None]:
    """Turn whatever a plugin's hook raises into `PluginFailed`, even an exit; what the project raises on purpose, the user's
    interruption and exhausted memory pass."""
    try:
        yield
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if out_of_memory(error):
            raise
        raise PluginFailed(f"{plugin}: {hook} raised {told(error)}{_hint(error)}") from error


def _hint(error: BaseException) -> str:
    """Say what of the harness an error may come from, where torch's own words do not."""
    if isinstance(error, RuntimeError) and "view size is not compatible" in str(error):
        return "; images and the weights of convolutions are laid out channels-last here: write flatten or reshape, not view"
    return ""


def on_one_line(text: str) -> str:
    """Return text without line breaks, and without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def printable(text: str) -> str:
    """Return a text that steers no terminal: a stranger may have written what is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text)


def told(error: BaseException) -> str:
    """Return type, message and place of an error, on one line."""
    try:
        text = on_one_line(str(error))
    except Exception:  # a plugin's exception may fail at this too
        text = "(its message cannot be read)"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"
    return f"{type(error).__name__}{': ' if text else ''}{text}{_place(error)}"


def out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _EXHAUSTED)


def _place(error: BaseException) -> str:
    """Say where an error comes from: file and line of its innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
