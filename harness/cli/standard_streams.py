"""Standard input, output and error as the command line needs them, however the process was started."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Literal, TextIO

import click.utils


def repair_standard_streams() -> None:
    """Open what was closed (`2>&-`, `>&-`, `<&-`) on the null device, and print what an encoding lacks as escapes.

    A file opened while one of the descriptors 0 to 2 is free would get its number, and what libraries write to standard error
    would end up in it.
    """
    _fill_descriptors()
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def raised_by_printing(error: OSError) -> bool:
    """Say whether an error comes from `click.echo`, not from a file of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == click.utils.__file__


def discard(descriptor: int) -> None:
    """Send what is still to be written there to the null device; Python would complain at exit otherwise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _fill_descriptors() -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)  # as standard streams are: for the processes that are started
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _stream(descriptor: int, mode: Literal["r", "w"]) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
