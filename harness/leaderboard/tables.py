"""What a board is, as values: tables of methods and metrics, entries over seeds. Nothing here is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.results.rows import Better


@dataclass(frozen=True)
class Method:
    """A line of a table: one method in one configuration. `options` is canonical JSON; `members` is M, 0 if unknown."""

    name: str
    members: int
    options: str


@dataclass(frozen=True)
class Column:
    """A metric, which way it is better, and the version of the plugin that measured it."""

    metric: str
    unit: str
    better: Better
    version: str


@dataclass(frozen=True)
class Entry:
    """A metric of a method over seeds: mean and sample standard deviation (ddof = 1, None below two finite values).

    `n` of `expected` seeds are done. `status` is "done" (all of them), "incomplete" (some), "failed" or "missing" (none), "nan"
    (a NaN is among them, so the mean is NaN) or "absent" (the method has no row of this metric). `warnings` say why the
    ensembles measured are degenerate, if any is; such an entry is never the best.
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


@dataclass(frozen=True)
class Problem:
    """Why numbers of a method are lacking, NaN or of a degenerate ensemble: the seeds and the metrics concerned (empty: all of
    its metrics here)."""

    method: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Published:
    """A published number; `spread` is its ± over `n` seeds (None: not given). Only entries in `use` are compared."""

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
    """Ours beside a published number: "agrees" or "differs" within the spreads of both, or of the one that is known."""

    ours: Entry
    published: Published
    difference: float | None
    verdict: str


@dataclass(frozen=True)
class Table:
    """One benchmark on one data set and architecture; `entries` holds a tuple a method, in the order of the columns.

    `problems` tell of numbers that are lacking or NaN, `warnings` of numbers that are there but are of degenerate ensembles.
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
    """All tables; `unmatched` counts the published numbers that found no counterpart (None: nothing was compared)."""

    tables: tuple[Table, ...]
    unmatched: int | None = None
