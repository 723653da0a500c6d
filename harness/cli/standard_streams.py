"""Standard input, output and error as the command line needs them, however the process was started."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def repair_standard_streams() -> None:
    """Open what was closed (`2>&-`, `>&-`, `<&-`) on the null device, and print what an encoding lacks as escapes.

    A file opened while one of the descriptors 0 to 2 is free would get its number, and what libraries write to standard error
    would end up in it.
    """
    _fill_descriptors()
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Send what is still to be written to the null device: nobody reads it any more, and Python would complain at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _fill_descriptors() -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)  # as standard streams are: for the processes that are started
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _stream(descriptor: int, mode: str) -> TextIO:
    return os.fdopen(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
