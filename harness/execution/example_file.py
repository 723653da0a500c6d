"""Writes a run's `examples.npz` from the measurements in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.execution.collector import ResultCollector
from harness.execution.run_state import RunState
from harness.plan.graph import Graph
from harness.results.examples import Examples, write_examples


def update_examples(path: Path, graph: Graph, state: RunState, collector: ResultCollector) -> None:
    """Write the contributions of test images to all measured values, in the order of cells and metrics.

    A file that holds them already is not touched: a key stands for one array. Without any, an old file is removed. Raise
    `UserError` if the file cannot be written.
    """
    keys = list(dict.fromkeys(_measured_keys(graph, state)))
    if not keys:
        path.unlink(missing_ok=True)
    elif not _holds(path, keys):
        write_examples(path, collector.examples(keys))


def _measured_keys(graph: Graph, state: RunState) -> Iterator[str]:
    """Yield the keys of all measurements with contributions, some more than once: equal ensembles share them."""
    for cell in graph.cells:
        for task in cell.measures.values():
            measured = state.measured.get(task.key)
            if measured is not None and measured.has_examples:
                yield task.key


def _holds(path: Path, keys: list[str]) -> bool:
    """Return whether the file holds the arrays of these keys and no others."""
    try:
        return Examples(path).keys == set(keys)
    except UserError:  # damaged, so it is written anew
        return False
