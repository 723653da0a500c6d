"""Rows of alignments: equal in two fresh stores, and after a run that was interrupted in the middle of an alignment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import Lab
from harness.errors import Interrupted
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.telemetry.events import DerivationEpochEnded, Event

GraphOf = Callable[..., Graph]
METRICS = ["ensemble_accuracy", {"joint_connectivity": {"draws": 2}}]
VIT = {"vit": {"patch": 2, "width": 8, "mlp": 8, "depth": 1, "heads": 2, "dropout": 0.0}}
QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 24}
LEARNED: list[Any] = [
    {"ste": QUICK},
    {"ste_mm": QUICK},
    {"sinkhorn": {"loss": "midpoint", **QUICK}},
    {"orthogonal": {"learn_epochs": 3, "batch_size": 24}},
]
"""The alignments that train."""
OTHERS: list[Any] = [
    "weights",
    {"joint_weights": {"restarts": 2}},
    {"activations": {"images": 32}},
    {"sinkhorn": {"steps": 3}},
    {"c2m3": {"max_steps": 5, "restarts": 2}},
    "ot",
    {"scales": {"permutations": True}},
    "orthogonal",
]


def benchmark(by: list[Any]) -> dict[str, Any]:
    """Return the changes of a benchmark with a method per alignment, on very small vision transformers."""
    methods = [{"aligned": {"by": alignment, "label": f"aligned {number}"}} for number, alignment in enumerate(by)]
    recipe = {"epochs": 1, "batch_size": 32, "augmentation": {"crop_padding": 0, "horizontal_flip": False}}
    return {"methods": methods, "metrics": METRICS, "members": 2, "architectures": [VIT], "recipe": recipe}


def rows_of(folder: Path, graph: Graph) -> pd.DataFrame:
    """Run a graph on a fresh store in a new folder; return its rows, all of them with values."""
    folder.mkdir()
    lab = Lab(folder)
    lab.run(graph)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    return rows


def test_two_fresh_stores(graph_of: GraphOf, tmp_path: Path) -> None:
    """All alignments give the same rows again, to the bit."""
    graph = graph_of(**benchmark([*OTHERS, *LEARNED]))
    first = rows_of(tmp_path / "first", graph)
    pd.testing.assert_frame_equal(first, rows_of(tmp_path / "second", graph), check_exact=True)
    assert first["method"].nunique() == len(OTHERS) + len(LEARNED)


@pytest.mark.parametrize(("epoch", "by"), list(zip((1, 2, 1, 2), LEARNED, strict=True)), ids=lambda value: str(value)[:9])
def test_interrupted_alignment(graph_of: GraphOf, tmp_path: Path, epoch: int, by: Any) -> None:
    """A run that stops after an epoch of an alignment, and is continued, has the rows of an uninterrupted one, to the bit."""
    graph = graph_of(**benchmark([by]))
    whole = rows_of(tmp_path / "whole", graph)
    (tmp_path / "parts").mkdir()
    lab = Lab(tmp_path / "parts")
    reached: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, DerivationEpochEnded):
            reached.append(event.epoch)

    with pytest.raises(Interrupted):
        lab.run(graph, stopping=lambda: epoch in reached, observe=note)
    assert "done" not in set(read_rows(lab.out).query("metric == 'joint_connectivity'")["status"])
    reached.clear()
    lab.run(graph, observe=note)
    assert reached == list(range(epoch + 1, 4))
    pd.testing.assert_frame_equal(read_rows(lab.out), whole, check_exact=True)
