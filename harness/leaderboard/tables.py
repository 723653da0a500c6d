"""A board as values: tables of methods × metrics, with entries over seeds. Computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.results.rows import Better


@dataclass(frozen=True)
class Method:
    """A line of a table: one method in one configuration. `members` is M (0: unknown), `options` is canonical JSON."""

    name: str
    members: int
    options: str


@dataclass(frozen=True)
class Column:
    """A column of a table: a metric, its direction, and the version of the plugin that measured it.

    `title` and `symbol` are short names of the metric for papers; empty if the rows have none.
    """

    metric: str
    unit: str
    better: Better
    version: str
    title: str = ""
    symbol: str = ""


@dataclass(frozen=True)
class Entry:
    """A metric of a method over seeds: mean and sample standard deviation (ddof = 1; None unless two values are finite).

    `n` of `expected` seeds are done. `status` is "done" (all of them), "incomplete" (some), "failed" or "missing" (none), "nan"
    (a value is NaN, and so is the mean) or "absent" (the method has no row of this metric). `warnings` say why the measured
    ensembles are degenerate, if any is; such an entry is never the best. `best` marks an entry that cannot be told apart from
    the best of its column, itself included. Entries of a column that share one of their `letters` cannot be told apart.
    """

    method: str
    metric: str
    mean: float | None
    std: float | None
    n: int
    expected: int
    status: Literal["done", "incomplete", "failed", "missing", "nan", "absent"]
    best: bool = False
    warnings: tuple[str, ...] = ()
    letters: str = ""


@dataclass(frozen=True)
class Problem:
    """Why numbers of a method are missing, NaN or of a degenerate ensemble.

    `seeds` and `metrics` are those affected; no metrics means all metrics of the method in the table.
    """

    method: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Published:
    """A published number. `spread` is its ± over `n` seeds (None: not given). Only a number in `use` is compared."""

    source: str
    table: str
    dataset: str
    architecture: str
    method: str
    metric: str
    value: float
    spread: float | None
    n: int | None
    use: bool
    note: str


@dataclass(frozen=True)
class Comparison:
    """A measured entry beside a published number. `difference` is ours − published, None if ours has no finite mean."""

    ours: Entry
    published: Published
    difference: float | None
    verdict: str


@dataclass(frozen=True)
class Table:
    """One benchmark on one data set and architecture.

    `entries` holds one tuple per method, in the order of the columns. `problems` explain numbers that are missing or NaN,
    `warnings` those of degenerate ensembles.
    """

    benchmark: str
    dataset: str
    architecture: str
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    columns: tuple[Column, ...]
    entries: tuple[tuple[Entry, ...], ...]
    problems: tuple[Problem, ...]
    comparisons: tuple[Comparison, ...] = ()
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Board:
    """All tables. `unmatched` counts the published numbers without a counterpart (None: no reference was given)."""

    tables: tuple[Table, ...]
    unmatched: int | None = None
