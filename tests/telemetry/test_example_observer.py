"""The observers of docs/plugins.md: a function that writes training curves for TensorBoard, and a class that runs name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
import toys
from conftest import Lab
from harness.plan.graph import Graph
from harness.testing import check_observer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def example(number: int) -> SimpleNamespace:
    """Return a module that the page shows under "An observer of your own"."""
    section = PAGE.read_text(encoding="utf-8").split("## An observer of your own")[1]
    code = section.split("```python\n")[number].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 20
    namespace: dict[str, object] = {}
    exec(compile(code, "observer.py", "exec"), namespace)
    return SimpleNamespace(**namespace)


def test_example_observer_writes_the_training_curves(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """TensorBoard reads one curve per training, with the losses and accuracies that the store holds."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    graph = graph_of(methods=["deep"], members=2)
    lab.run(graph, observe=example(1).observe_event)
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


def test_example_of_an_observer_that_a_run_names(tmp_path: Path) -> None:
    """It follows a run that names it, keeps its contract, and writes the best accuracy of each training."""
    classes: list[type] = []
    example(2).register_observers(classes.append)
    (observer,) = classes
    (tmp_path / "contract").mkdir()
    check_observer(observer(), tmp_path / "contract")
    finished = harness.run(
        {
            "seeds": [0],
            "members": 2,
            "datasets": ["blobs"],
            "architectures": ["perceptron"],
            "methods": ["deep"],
            "metrics": ["ensemble_accuracy"],
            "recipe": {"epochs": 2, "batch_size": 32, "precision": "fp32", "augmentation": {"crop_padding": 0}},
        },
        out=tmp_path / "run",
        store=tmp_path / "store",
        data=tmp_path,
        workers=1,
        device="cpu",
        progress=False,
        observe=["best_epochs"],
        catalogue=toys.catalogue(("observer", observer)),
    )
    written = json.loads((finished.folder / "best_epochs.json").read_text())
    assert written["status"] == "done"
    best: dict[str, float] = {}
    for line in (finished.folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "epoch":
            best[event["description"]] = max(best.get(event["description"], 0.0), event["accuracy"])
    assert len(best) == 2
    assert written["accuracy"] == best
