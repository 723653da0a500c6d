"""Keys of shipped benchmarks. They change only on purpose, with a new `FORMAT` or a new version of a plugin."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.benchmark import load_benchmark
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


def plan_of(name: str) -> Graph:
    """Return the plan of a shipped benchmark."""
    return plan(load_benchmark(BENCHMARKS / name, load_catalogue()))


@pytest.mark.parametrize(
    ("name", "cells", "tasks", "digest"),
    [
        ("quickstart.yaml", 28, 236, "0e8e31f29c4e773ea012fbaa24c7a2f363bcc0d894146202adf301e051f4851c"),
        ("figures.yaml", 186, 2928, "58dd628c3831751ec7a36ee00145853e342e88a76b53752fe99008e8f95a3bcc"),
    ],
)
def test_keys_of_all_tasks(name: str, cells: int, tasks: int, digest: str) -> None:
    """Stored results stay valid: the keys of all tasks are those of earlier versions, in the same order."""
    graph = plan_of(name)
    assert (len(graph.cells), len(graph.tasks)) == (cells, tasks)
    assert hashlib.sha256("\n".join(graph.tasks).encode()).hexdigest() == digest


def test_keys_of_the_first_ensemble_of_the_paper() -> None:
    """The deep ensemble on CIFAR-10 has the same key in the paper's file and in that of the figures."""
    expected = "c4b3b9493f94350c3fac64f1d601119111ad209737fd9ccc6d10d2cabc4be95f"
    assert plan_of("paper.yaml").cells[0].key == expected
    assert plan_of("figures.yaml").cells[0].key == expected


def test_cells_share_equal_trainings() -> None:
    """A training from initialization is one value in all methods that have it."""
    cells = {cell.spec.method.label: cell for cell in plan_of("quickstart.yaml").cells if cell.spec.seed == 0}
    teacher = cells["distilled_deep"].members[0].origin.teacher
    assert teacher is not None
    assert teacher.origin is cells["deep"].members[0].origin
