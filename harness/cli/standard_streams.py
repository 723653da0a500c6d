"""Standard streams of the command line: closed ones are reopened, and writing to standard error never fails."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Literal, TextIO

import click.utils

from harness.text import plain_lines

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def repair_standard_streams() -> None:
    """Open closed streams (`2>&-`, `>&-`, `<&-`) on the null device, and print escapes for characters outside an encoding.

    Otherwise a file opened later would get one of the descriptors 0 to 2, and output of libraries would end up in it. If
    standard error cannot be written (its reader has ended, its disk is full), messages are lost and the work continues.
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
    """A file that ignores errors of `write`: bytes that cannot be written are lost."""

    def write(self, data: Buffer, /) -> int:
        """Write bytes and return how many were written, or how many were lost."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _never_failing(stream: TextIO) -> TextIO:
    """Return a stream with the same descriptor whose `write` raises no `OSError`.

    A stream that Python did not open (a notebook's, a test's) is returned unchanged.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        return stream
    file = io.BufferedWriter(_LossyFile(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(file, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def print_document(text: str) -> None:
    """Print a document that ends with a line feed. A terminal gets no control characters; a file or a pipe gets all of it.

    Formats for programs, such as CSV, keep the names of rows exactly, and rows may come from others.
    """
    if sys.stdout.isatty():
        text = plain_lines(text)
    click.echo(text, nl=False, color=True)  # otherwise click drops escape sequences, which may be part of names


def raised_by_printing(error: OSError) -> bool:
    """Return whether an error was raised by `click.echo` and not by another file operation."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == click.utils.__file__


def discard(descriptor: int) -> None:
    """Redirect a descriptor to the null device, so that Python can flush the stream at exit without an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _fill_descriptors() -> None:
    """Open the null device under each of the descriptors 0 to 2 that is free."""
    descriptor = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)  # child processes inherit standard streams
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _stream(descriptor: int, mode: Literal["r", "w"]) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
