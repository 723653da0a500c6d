"""Rows to a board: what is laid together, averaged over seeds and marked best, and what is refused. Prints nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from harness.errors import UserError, did_you_mean
from harness.leaderboard.numerals import format_number
from harness.leaderboard.tables import Board, Column, Entry, Method, Problem, Table
from harness.results.ensemble_warnings import ONE_MEMBER
from harness.results.rows import Row, rows_of

if TYPE_CHECKING:
    import pandas as pd


def board(frames: Mapping[str, pd.DataFrame], metrics: str = "main") -> Board:
    """Return the board of one or several runs, each a DataFrame of rows under the name of its folder.

    `metrics` is "main" (the benchmark's own, without details such as pairs), "all", or names with commas between. Runs are laid
    together in their order; what is there twice counts once, done before failed before missing. What cannot stand in one table
    raises `UserError`: two settings, two values for one place, or a metric or a method that is not the same in all its rows.
    """
    every = [(folder, row) for folder, frame in frames.items() for row in rows_of(frame)]
    _check_settings(every)
    wanted = _selected([row for _, row in every], metrics)
    found = _merged(every, wanted)
    places: dict[tuple[str, str, str], list[tuple[str, Row]]] = {}
    for folder, row in found:
        places.setdefault((row.benchmark, row.dataset, row.architecture), []).append((folder, row))
    tables = (_table(place, inside, wanted) for place, inside in places.items())
    return Board(tuple(table for table in tables if table.columns))


def _check_settings(every: Iterable[tuple[str, Row]]) -> None:
    """Refuse rows of one table that were measured in different settings; rows that do not know theirs do not count."""
    first: dict[tuple[str, str, str], tuple[str, Row]] = {}
    for folder, row in every:
        if not row.setting:
            continue
        other, earlier = first.setdefault((row.benchmark, row.dataset, row.architecture), (folder, row))
        if earlier.setting != row.setting:
            known = all(r.key and r.key != r.cell for r in (earlier, row))  # the store knows measurements, not cells
            how = f"; `harness diff {earlier.key[:12]} {row.key[:12]}` says in what they differ" if known else ""
            raise UserError(
                f"{_folders(other, folder)}: the rows of {_place(row)} come from two settings (data set × architecture × "
                f"recipe), {earlier.setting[:12]} and {row.setting[:12]}, which cannot stand in one table; leave one run out, "
                f"run it again with the other's recipe, or give its benchmark another name{how}"
            )


def _merged(every: Iterable[tuple[str, Row]], wanted: Collection[str]) -> list[tuple[str, Row]]:
    """Return (folder, row), one for each place, in order of first appearance.

    Details that are not shown may differ (what a run had to train anew depends on what else was in it): the first one stays.
    """
    found: dict[tuple, tuple[str, Row]] = {}
    order = ("done", "failed", "missing")
    for folder, row in every:
        other, earlier = found.setdefault(row.place, (folder, row))
        counts = (row.main or row.metric in wanted) and earlier.status == row.status == "done"
        if counts and repr(earlier.value) != repr(row.value):
            raise UserError(
                f"{_folders(other, folder)}: {row.metric} of {row.method}, seed {row.seed} ({_place(row)}) is both "
                f"{earlier.value!r} and {row.value!r}; leave one run out, or give its benchmark another name"
            )
        if order.index(row.status) < order.index(earlier.status):
            found[row.place] = folder, _with_warning(row, earlier)
        else:
            found[row.place] = other, _with_warning(earlier, row)
    return list(found.values())


def _with_warning(row: Row, twin: Row) -> Row:
    """Return a row with the warning that another row of the same ensemble has, if it has none: an older run knew of none."""
    if row.warning or not twin.warning or row.cell != twin.cell:
        return row
    return replace(row, warning=twin.warning)


def _selected(rows: Sequence[Row], metrics: str) -> list[str]:
    """Return the names of the metrics to show, in order."""
    known = list(dict.fromkeys(row.metric for row in rows))
    if metrics == "all":
        return known
    if metrics == "main":
        return list(dict.fromkeys(row.metric for row in rows if row.main))
    names = list(dict.fromkeys(name.strip() for name in metrics.split(",")))
    for name in names:
        if name not in known:
            raise UserError(f"no rows of metric '{name}'{did_you_mean(name, known)}")
    return names


def _table(place: tuple[str, str, str], found: Sequence[tuple[str, Row]], wanted: Sequence[str]) -> Table:
    """Return the table of the rows of one place."""
    done = [(folder, row) for folder, row in found if row.status == "done"]
    for attribute in ("metric_version", "unit", "better"):
        _check_single(done, "metric", attribute, "measure all of them with one version of the metric")
    for attribute in ("options", "members", "method_version"):
        _check_single(found, "method", attribute, "give variants of a method names of their own in the benchmark")
    _check_single(found, "benchmark", "objective", "give one of the benchmarks another name")
    rows = [row for _, row in found]
    seeds = tuple(sorted({row.seed for row in rows}))
    methods = tuple(_method(name, rows) for name in dict.fromkeys(row.method for row in rows))
    columns = tuple(_column(metric, rows) for metric in wanted if any(row.metric == metric for row in rows))
    by_entry: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        by_entry.setdefault((row.method, row.metric), {})[row.seed] = row
    cells = {(m.name, c.metric): by_entry.get((m.name, c.metric), {}) for m in methods for c in columns}
    marked = [_with_best([_entry(m.name, c.metric, cells[m.name, c.metric], len(seeds)) for m in methods], c) for c in columns]
    problems = tuple(p for method in methods for p in _problems(method.name, columns, cells, seeds, _trouble))
    warnings = tuple(p for method in methods for p in _problems(method.name, columns, cells, seeds, _warning))
    return Table(*place, seeds, methods, columns, tuple(zip(*marked)), problems, warnings=warnings)


def _check_single(
    found: Sequence[tuple[str, Row]], subject: Literal["metric", "method", "benchmark"], attribute: str, remedy: str
) -> None:
    """Refuse rows of one metric, one method or one table that differ in an attribute; rows that leave it empty do not count."""
    first: dict[str, tuple[str, Row]] = {}
    for folder, row in found:
        if not getattr(row, attribute):
            continue
        other, earlier = first.setdefault(getattr(row, subject), (folder, row))
        a, b = getattr(earlier, attribute), getattr(row, attribute)
        if a != b:
            raise UserError(
                f"{_folders(other, folder)}: {subject} '{getattr(row, subject)}' ({_place(row)}) has {attribute} {a} and {b}, "
                f"which cannot stand in one table; {remedy}, or make a board of each"
            )


def _method(name: str, rows: Iterable[Row]) -> Method:
    own = [row for row in rows if row.method == name]
    return Method(name, max(row.members for row in own), max(row.options for row in own))  # the one value that is not empty


def _column(metric: str, rows: Iterable[Row]) -> Column:
    own = [row for row in rows if row.metric == metric]
    done = [row for row in own if row.status == "done"] or own
    better = max((row.better for row in done), key=len)
    return Column(metric, max(row.unit for row in done), better, max(row.metric_version for row in done))


def _entry(method: str, metric: str, by_seed: Mapping[int, Row], expected: int) -> Entry:
    """Return a metric of a method over its seeds."""
    values = [row.value for row in by_seed.values() if row.value is not None]
    warnings = tuple(dict.fromkeys(filter(None, (_warning(by_seed[seed]) for seed in sorted(by_seed)))))
    if not values:
        statuses = {row.status for row in by_seed.values()}
        return Entry(method, metric, None, None, 0, expected, _worst(statuses))
    mean, std = mean_and_std(values)
    status: Literal["done", "incomplete", "nan"] = "done" if len(values) == expected else "incomplete"
    if math.isnan(mean):
        status = "nan"
    return Entry(method, metric, mean, std, len(values), expected, status, warnings=warnings)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of one value or more, and the sample standard deviation (ddof = 1), None below two finite values."""
    mean, std = statistics.mean(values), None
    if len(values) > 1 and all(map(math.isfinite, values)):
        try:
            std = statistics.stdev(values)
        except OverflowError:
            std = math.inf
    return mean, std


def _worst(statuses: Collection[str]) -> Literal["failed", "missing", "absent"]:
    if "failed" in statuses:
        return "failed"
    return "missing" if statuses else "absent"


def _with_best(entries: list[Entry], column: Column) -> list[Entry]:
    """Mark the best of a column: among complete, finite entries of sound ensembles, all that print alike; nothing where there
    is no contest."""
    rivals = [e.mean for e in entries if e.mean is not None and _may_win(e)]
    contest = sum(e.status != "absent" for e in entries) > 1
    if not (column.better and rivals and contest):
        return entries
    best = format_number(max(rivals) if column.better == "higher" else min(rivals), column.unit)
    winners = {mean for mean in rivals if format_number(mean, column.unit) == best}
    return [replace(e, best=_may_win(e) and e.mean in winners) for e in entries]


def _may_win(entry: Entry) -> bool:
    return entry.status == "done" and not entry.warnings and entry.mean is not None and math.isfinite(entry.mean)


def _problems(
    method: str,
    columns: Sequence[Column],
    cells: Mapping[tuple[str, str], Mapping[int, Row]],
    seeds: Sequence[int],
    say: Callable[[Row | None], str],
) -> list[Problem]:
    """Return what `say` has to say of a method's rows, equal messages together."""
    measured = tuple(column.metric for column in columns if cells[method, column.metric])
    found: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for seed in seeds:
        messages: dict[str, tuple[str, ...]] = {}
        for metric in measured:
            message = say(cells[method, metric].get(seed))
            if message:
                messages[message] = (*messages.get(message, ()), metric)
        for message, metrics in messages.items():
            found.setdefault((metrics, message), []).append(seed)
    return [Problem(method, tuple(on), () if m == measured else m, message) for (m, message), on in found.items()]


def _trouble(row: Row | None) -> str:
    """Return what is wrong with a row, or nothing."""
    if row is None:
        return "no row"
    if row.status == "failed":
        return f"failed: {row.message or 'no reason recorded'}"
    if row.status == "missing":
        return "not computed yet"
    return "the value is nan" if row.value is not None and math.isnan(row.value) else ""


def _warning(row: Row | None) -> str:
    """Return why the ensemble that a value is of is degenerate, or nothing; a row without a value needs no warning.

    Rows of older runs hold no warnings, but the number of members.
    """
    if row is None or row.status != "done":
        return ""
    return row.warning or (ONE_MEMBER if row.members == 1 else "")


def _folders(a: str, b: str) -> str:
    return a if a == b else f"{a} and {b}"


def _place(row: Row) -> str:
    return f"{row.benchmark}, {row.dataset}, {row.architecture}"
