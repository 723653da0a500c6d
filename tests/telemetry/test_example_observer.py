"""The observer of docs/plugins.md, which writes training curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import Lab
from harness.plan.graph import Graph

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def example() -> SimpleNamespace:
    """Return the module that the page shows under "An observer of your own"."""
    section = PAGE.read_text(encoding="utf-8").split("## An observer of your own")[1]
    code = section.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 20
    namespace: dict[str, object] = {}
    exec(compile(code, "observer.py", "exec"), namespace)
    return SimpleNamespace(**namespace)


def test_example_observer_writes_the_training_curves(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """TensorBoard reads one curve per training, with the losses and accuracies that the store holds."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    graph = graph_of(methods=["deep"], members=2)
    lab.run(graph, observe=example().observe_event)
    folders = sorted((lab.out / "tensorboard").iterdir())
    names = [folder.name.rpartition(" ")[0] for folder in folders]
    assert names == ["blobs perceptron cross_entropy seed 0 member 0", "blobs perceptron cross_entropy seed 0 member 1"]
    for folder, member in zip(folders, graph.cells[0].members, strict=True):
        curves = accumulator.EventAccumulator(str(folder))
        curves.Reload()
        history = lab.store.meta(member.key)["history"]
        for name in ("loss", "accuracy"):
            drawn = [(scalar.step, pytest.approx(scalar.value, rel=1e-6)) for scalar in curves.Scalars(name)]
            assert [(record["epoch"], record[name]) for record in history] == drawn
