"""CSV files with a header: reading with line numbers, and lines from which every text reads back.

Knows nothing of rows and their columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import UserError

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf|nan")
_LONGEST_FIELD = 2**31 - 1  # the csv module's limit, 131072 characters, would refuse lines that `csv_line` has made


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, fields by column) for each line of a CSV file whose header holds at least these columns.

    Raise `UserError` with path and line for a file that is missing, not UTF-8, cut short or not CSV.
    """
    header, lines = read_lines(path, columns)
    return [(line, dict(zip(header, fields))) for line, fields in lines]


def read_lines(path: Path, columns: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and (line number, fields) for each line after it. See `read_table`."""
    found = _lines(path)
    if not found:
        raise UserError(f"{path}:1: the file is empty; its first line must name the columns {', '.join(columns)}")
    _, header = found[0]
    for name in columns:
        if name not in header:
            raise UserError(f"{path}:1: no column '{name}'; {_expected(header, columns)}")
    for name in columns:
        if header.count(name) > 1:
            raise UserError(f"{path}:1: column '{name}' stands there twice; name it once")
    lines = found[1:]
    for line, fields in lines:
        if len(fields) != len(header):
            raise UserError(f"{path}:{line}: {len(fields)} fields, the header has {len(header)}; was the file cut short?")
    return header, lines


def _expected(header: Sequence[str], columns: Sequence[str]) -> str:
    """Return what a header lacks that does not have all columns. Some spreadsheets separate fields otherwise."""
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f"its fields are separated by {word}: save the file with commas"
    return f"needed: {', '.join(columns)}"


def number(name: str, text: str) -> float:
    """Return the number in the field `name`. Raise `ValueError` for anything else."""
    if not _NUMBER.fullmatch(text):
        point = text.replace(",", ".", 1)
        advice = f"; with a decimal point it is {point}" if _NUMBER.fullmatch(point) else ""
        raise ValueError(f"{name} {text!r} is not a number{advice}")
    return float(text)


def integer(name: str, text: str) -> int:
    """Return the integer in the field `name`. Raise `ValueError` for anything else."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{name} {text!r} is not an integer")
    return int(text)


def flag(name: str, text: str) -> bool:
    """Return the boolean in the field `name`. Raise `ValueError` unless it is `true` or `false`.

    Spreadsheets write capitals.
    """
    if text not in ("true", "false", "TRUE", "FALSE"):
        raise ValueError(f"{name} {text!r} is neither true nor false")
    return text.lower() == "true"


def csv_line(fields: Iterable[str]) -> str:
    """Return one line of CSV (RFC 4180), ended by a line feed.

    Python's `csv.writer` does not quote a lone carriage return if lines end in a line feed, and cannot read it back.
    """
    return ",".join(map(_quoted, fields)) + "\n"


def _quoted(text: str) -> str:
    """Return a field, in quotes if it holds a separator, a quote or a line break."""
    if set(text).isdisjoint(',"\r\n'):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, fields) for each line of a CSV file that is not blank."""
    text = _read_text(path)
    if text and not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise UserError(f"{path}:{line}: no line break ends the last line; add one, or was the file cut short?")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    line = 1
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for fields in reader:
            if fields:
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not CSV: {error}; was the file cut short?") from None
    finally:
        csv.field_size_limit(limit)
    return found


def _read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that spreadsheets write."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
