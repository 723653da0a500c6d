"""Standard input, output and error as the command line needs them, however the process was started."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Literal, TextIO

import click.utils

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def repair_standard_streams() -> None:
    """Open what was closed (`2>&-`, `>&-`, `<&-`) on the null device, and print what an encoding lacks as escapes.

    A file opened while one of the descriptors 0 to 2 is free would get its number, and what libraries write to standard error
    would end up in it. Standard error that cannot be written (its reader has ended, its disk is full) fails nothing: what is
    said there is lost, the work goes on.
    """
    _fill_descriptors()
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")
    sys.stderr = _never_failing(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


class _LossyFile(io.FileIO):
    """A file that takes what cannot be written as if it were: nobody reads it."""

    def write(self, data: Buffer, /) -> int:
        """Write what the system takes, all of it at most once."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _never_failing(stream: TextIO) -> TextIO:
    """Return a stream to the same descriptor that writes as before, but raises no `OSError`.

    A stream that is not one of Python's own (a notebook's, a test's) stays as it is.
    """
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        return stream
    file = io.BufferedWriter(_LossyFile(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(file, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


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
