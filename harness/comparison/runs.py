"""What a comparison reads from the folder of a run: rows, contributions of test images, margins of equivalence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserError
from harness.leaderboard.merging import SourcedRow
from harness.results.examples import Examples
from harness.results.rows import read_rows
from harness.results.run_json import load_run_json

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "run the benchmark again to write it anew"
_TOLERANCE = 1e-5  # of the mean size of the contributions, which are float32

Margins = Mapping[tuple[str, str], float]
"""Benchmark and metric → the margin of equivalence."""


@dataclass(frozen=True)
class ComparedRun:
    """The rows of a run's folder, its contributions of test images, and its benchmark's margins of equivalence."""

    folder: str
    rows: pd.DataFrame
    examples: Examples
    margins: Margins


def read_compared_run(folder: Path) -> ComparedRun:
    """Return what a comparison needs of a run. Raise `UserError` for damaged files, and for a folder without rows.

    A folder without `examples.npz` has no contributions, and one without `run.json` no margins.
    """
    rows = read_rows(folder)
    home = folder if folder.is_dir() else folder.parent
    return ComparedRun(str(folder), rows, Examples(home), _margins(load_run_json(home, _REMEDY)))


def _margins(facts: Mapping[str, Any] | None) -> Margins:
    """Return the margins in a `run.json`; what is malformed there counts as absent."""
    benchmark = (facts or {}).get("benchmark")
    if not isinstance(benchmark, Mapping):
        return {}
    declared = benchmark.get("equivalence")
    if not isinstance(declared, Mapping):
        return {}
    margins = {}
    for metric, margin in declared.items():
        if isinstance(margin, int | float) and margin > 0:
            margins[str(benchmark.get("name", "")), str(metric)] = float(margin)
    return margins


def merged_margins(runs: Iterable[ComparedRun]) -> Margins:
    """Return the margins of all runs. Raise `UserError` if two runs of a benchmark declare different ones."""
    merged: dict[tuple[str, str], float] = {}
    owners: dict[tuple[str, str], str] = {}
    for run in runs:
        for place, margin in run.margins.items():
            earlier = merged.setdefault(place, margin)
            owner = owners.setdefault(place, run.folder)
            if earlier != margin:
                benchmark, metric = place
                raise UserError(
                    f"{owner} and {run.folder}: benchmark '{benchmark}' declares the margins {earlier:g} and {margin:g} for "
                    f"the equivalence of {metric}; compare the runs separately, or give one of the benchmarks another name"
                )
    return merged


class Contributions:
    """The contributions of test images in all runs of a comparison, by the rows of their means."""

    def __init__(self, runs: Iterable[ComparedRun]) -> None:
        self._files = [run.examples for run in runs]

    def tables(self, method: list[SourcedRow], baseline: list[SourcedRow]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the contributions behind rows of a method and of the baseline, both float64 (seeds, images).

        The rows are those of the same seeds. None unless all of them have contributions. Raise `UserError` if the rows were
        measured on test sets of different sizes, or if contributions do not belong to their row.
        """
        found = [self._read(sourced) for sourced in (*method, *baseline)]
        arrays = [array for array in found if array is not None]
        if len(arrays) < len(found):
            return None
        for sourced, array in zip((*method, *baseline), arrays):
            if len(array) != len(arrays[0]):
                raise UserError(
                    f"{method[0].folder} and {sourced.folder}: {sourced.row.metric} was measured on test sets of "
                    f"{len(arrays[0])} and {len(array)} images, which cannot be paired; compare runs on one test set"
                )
        return np.stack(arrays[: len(method)]), np.stack(arrays[len(method) :])

    def _read(self, sourced: SourcedRow) -> np.ndarray | None:
        row = sourced.row
        for examples in self._files:
            array = examples.read(row.key, row.unit)
            if array is None:
                continue
            tolerance = _TOLERANCE * np.abs(array).mean()
            if row.value is None or abs(array.mean() - row.value) > tolerance:
                raise UserError(
                    f"{examples.path}: the images of {row.metric} of {row.method}, seed {row.seed} have mean {array.mean():g}, "
                    f"but its row in {sourced.folder} has {row.value}; run the benchmark again, or remove {examples.path.name}"
                )
            return array
        return None
