"""Published numbers beside measured ones: the CSV file that holds them, and the rule by which two numbers agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.leaderboard.tables import Board, Comparison, Entry, Published, Table
from harness.results.csv_file import flag, integer, number, read_table

_PUBLISHED_COLUMNS = ("source", "table", "dataset", "architecture", "method", "metric", "value", "spread", "n", "note")


def read_reference(path: str | Path) -> tuple[Published, ...]:
    """Return the published numbers of a CSV file, which `docs/board.md` describes. Without a column `use` all are in use.

    A source may give a quantity twice, in two tables that disagree; only one of the two may be in use. Raise `UserError` for
    an invalid line.
    """
    path = Path(path)
    found: dict[tuple, int] = {}
    entries = []
    for line, fields in read_table(path, _PUBLISHED_COLUMNS):
        try:
            entry = _published(fields)
        except ValueError as error:
            raise UserError(f"{path}:{line}: {error}") from None
        place = (entry.source, entry.dataset, entry.architecture, entry.method, entry.metric)
        if entry.use and found.setdefault(place, line) != line:
            what = f"{', '.join(place[1:])} is in use at line {found[place]} already"
            raise UserError(f"{path}:{line}: {what}; set use to false in one of the two")
        entries.append(entry)
    return tuple(entries)


def _published(fields: Mapping[str, str]) -> Published:
    """Return the published number of one line. Raise `ValueError` for the first invalid field."""
    names = {name: fields[name] for name in ("source", "table", "dataset", "architecture", "method", "metric", "note")}
    value = number("value", fields["value"])
    spread = number("spread", fields["spread"]) if fields["spread"] else None
    if not math.isfinite(value) or not 0 <= (spread or 0) < math.inf:
        raise ValueError(f"{fields['value']} ± {fields['spread'] or 'nothing'} is no finite number with a spread of 0 or more")
    n = integer("n", fields["n"]) if fields["n"] else None
    use = flag("use", fields.get("use") or "true")
    return Published(**names, value=value, spread=spread, n=n, use=use)


_Quantity = tuple[str, str, str, str]
"""Data set, architecture, method and metric."""


def compare(board: Board, reference: Iterable[Published]) -> Board:
    """Return the board with the published numbers in use beside the entries of the same quantity."""
    by_quantity: dict[_Quantity, list[Published]] = {}
    for published in reference:
        if published.use:
            quantity = (published.dataset, published.architecture, published.method, published.metric)
            by_quantity.setdefault(quantity, []).append(published)
    tables = []
    unmatched = dict(by_quantity)
    for table in board.tables:
        comparisons = []
        for entry in _present_entries(table):
            quantity = (table.dataset, table.architecture, entry.method, entry.metric)
            unmatched.pop(quantity, None)
            comparisons += [_comparison(entry, published) for published in by_quantity.get(quantity, ())]
        tables.append(replace(table, comparisons=tuple(comparisons)))
    return Board(tuple(tables), sum(map(len, unmatched.values())))


def _present_entries(table: Table) -> Iterator[Entry]:
    for entries in table.entries:
        for entry in entries:
            if entry.status != "absent":
                yield entry


def _comparison(ours: Entry, published: Published) -> Comparison:
    """Return the comparison of a measured entry with a published number.

    The two agree if |ours − published| ≤ 2·√(s² + s′²), where s and s′ are their standard deviations over seeds. An unknown
    one counts as 0, and the verdict says so.
    """
    if ours.mean is None or not math.isfinite(ours.mean):
        return Comparison(ours, published, None, "no value of ours")
    difference = ours.mean - published.value
    limit = 2 * math.hypot(ours.std or 0, published.spread or 0)
    is_close = abs(difference) <= limit * (1 + 1e-9) + 1e-12  # tolerates the rounding of decimal fractions
    verdict = _verdict(is_close, ours.std is not None, published.spread is not None)
    return Comparison(ours, published, difference, verdict)


def _verdict(is_close: bool, has_std: bool, has_spread: bool) -> str:
    if has_std and has_spread:
        return "agrees" if is_close else "differs"
    if has_std:
        return "within our spread" if is_close else "outside our spread"
    if has_spread:
        return "within theirs; no spread of ours" if is_close else "outside theirs; no spread of ours"
    return "no spread known"
