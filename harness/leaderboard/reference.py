"""Published numbers beside ours: the CSV file that holds them, and the rule by which two numbers agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.leaderboard.tables import Board, Comparison, Entry, Published
from harness.results.rows import flag, integer, number, read_table

_PUBLISHED_COLUMNS = ("source", "table", "dataset", "architecture", "method", "metric", "value", "spread", "n", "note")


def read_reference(path: str | Path) -> tuple[Published, ...]:
    """Return the published numbers of a CSV file (`docs/board.md` describes it); `use` may lack and is then true.

    A source may list a place twice, from two tables that disagree, but only one of the two may be in use.
    """
    path = Path(path)
    found: dict[tuple, int] = {}
    entries = []
    for line, fields in read_table(path, _PUBLISHED_COLUMNS):
        try:
            entry = _published(fields)
        except ValueError as offence:
            raise UserError(f"{path}:{line}: {offence}") from None
        place = entry.source, entry.dataset, entry.architecture, entry.method, entry.metric
        if entry.use and found.setdefault(place, line) != line:
            what = f"{', '.join(place[1:])} is in use at line {found[place]} already"
            raise UserError(f"{path}:{line}: {what}; set use to false in one of the two")
        entries.append(entry)
    return tuple(entries)


def _published(fields: Mapping[str, str]) -> Published:
    """Return the entry that a line of a reference holds; raise `ValueError` on the first field that is not what it must be."""
    names = {name: fields[name] for name in ("source", "table", "dataset", "architecture", "method", "metric", "note")}
    value = number("value", fields["value"])
    spread = number("spread", fields["spread"]) if fields["spread"] else None
    if not math.isfinite(value) or not 0 <= (spread or 0) < math.inf:
        raise ValueError(f"{fields['value']} ± {fields['spread'] or 'nothing'} is no finite number with a spread of 0 or more")
    n = integer("n", fields["n"]) if fields["n"] else None
    return Published(**names, value=value, spread=spread, n=n, use=flag("use", fields.get("use") or "true"))


def compare(board: Board, reference: Iterable[Published]) -> Board:
    """Return the board with the published numbers in use set beside its entries of the same data set, architecture, method
    and metric."""
    places: dict[tuple[str, str, str, str], list[Published]] = {}
    for published in reference:
        if published.use:
            place = published.dataset, published.architecture, published.method, published.metric
            places.setdefault(place, []).append(published)
    tables, matched = [], set()
    for table in board.tables:
        comparisons = []
        for entry in (entry for entries in table.entries for entry in entries if entry.status != "absent"):
            place = table.dataset, table.architecture, entry.method, entry.metric
            matched.add(place)
            comparisons += [_comparison(entry, published) for published in places.get(place, ())]
        tables.append(replace(table, comparisons=tuple(comparisons)))
    return Board(tuple(tables), sum(len(entries) for place, entries in places.items() if place not in matched))


def _comparison(ours: Entry, published: Published) -> Comparison:
    """Compare by |ours − published| ≤ 2·√(s² + s′²), s and s′ the standard deviations over seeds. One that is not known is left
    out, and the verdict says so."""
    if ours.mean is None or not math.isfinite(ours.mean):
        return Comparison(ours, published, None, "no value of ours")
    difference = ours.mean - published.value
    limit = 2 * math.hypot(ours.std or 0, published.spread or 0)
    close = abs(difference) <= limit * (1 + 1e-9) + 1e-12  # the last bits of a decimal fraction decide nothing
    match ours.std is not None, published.spread is not None:
        case True, True:
            verdict = "agrees" if close else "differs"
        case True, False:
            verdict = "within our spread" if close else "outside our spread"
        case False, True:
            verdict = "within theirs; no spread of ours" if close else "outside theirs; no spread of ours"
        case _:
            verdict = "no spread known"
    return Comparison(ours, published, difference, verdict)
