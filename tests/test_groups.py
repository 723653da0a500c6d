"""Siblings that a worker trains side by side, as it does on a GPU: what comes out is what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.execution.worker
from conftest import RECIPE, Lab
from harness.errors import Interrupted
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "swe", {"distilled": {"fork_epoch": 1}}, "distilled_deep"]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have siblings trained side by side on the CPU too; return the sizes of what was trained at once."""
    sizes: list[int] = []
    train = harness.execution.worker.train_together

    def counted(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(trainers))
        return train(trainers, *args, **kwargs)

    monkeypatch.setattr(harness.execution.worker, "train_together", counted)
    monkeypatch.setattr(Worker, "_siblings_pay", lambda self, group: len(group) > 1 and group[0].kind == "train")
    return sizes


def contents(store: Store, graph: Graph) -> dict[str, Any]:
    """Return the tensors of every training, by key and part."""
    found = {}
    for key, task in graph.tasks.items():
        if task.kind == "train":
            for part in store.meta(key)["files"]:
                found[f"{key} {part}"] = store.tensors(key, part)
    return found


def equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Say whether two stores hold the same trainings, to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k][n], right[k][n]) for k in left for n in left[k])


@pytest.fixture
def alone(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """All trainings, each done alone, and the rows."""
    store = Store(tmp_path / "alone")
    lab.run(graph_of(methods=METHODS), store=store)
    lab.events.clear()
    return contents(store, graph_of(methods=METHODS)) | {"rows": {"rows": rows(lab)}}


def rows(lab: Lab) -> torch.Tensor:
    """Return the bytes of the rows, as something that can be compared with the rest."""
    return torch.frombuffer(bytearray((lab.out / "results.csv").read_bytes()), dtype=torch.uint8)


def test_siblings_side_by_side_are_siblings_alone(
    graph_of: GraphOf, lab: Lab, alone: dict[str, Any], together: list[int]
) -> None:
    """Weights, optimizer states and rows are equal to the bit; members of a method were trained at once."""
    graph = graph_of(methods=METHODS)
    lab.run(graph)
    assert equal(contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}, alone)
    assert max(together) == 3
    started = [event["task"] for event in lab.events if event["event"] == "train_started"]
    assert len(started) == len(set(started)) == sum(task.kind == "train" for task in graph.tasks.values())


@pytest.mark.parametrize("steps", [3, 17])
@pytest.mark.usefixtures("together")
def test_stopped_group_goes_on(
    graph_of: GraphOf, lab: Lab, alone: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped again and again, siblings are kept each by itself, and go on together or, every other time, alone."""
    graph = graph_of(methods=METHODS)
    pay, stops = Worker._siblings_pay, 0
    while True:
        looks = iter(range(10**6))
        monkeypatch.setattr(Worker, "_siblings_pay", pay if stops % 2 == 0 else lambda self, group: False)
        try:
            lab.run(graph, stopping=lambda looks=looks, last=steps + 31 * stops: next(looks) >= last)
            break
        except Interrupted:
            stops += 1
    assert stops > 1
    assert equal(contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}, alone)


def test_group_that_does_not_fit_is_halved(
    graph_of: GraphOf, lab: Lab, alone: dict[str, Any], together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device's memory does not suffice for three, two and one are trained; it is found out and said once for each
    objective."""
    train = harness.execution.worker.train_together

    def narrow(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if len(trainers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(trainers, *args, **kwargs)

    monkeypatch.setattr(harness.execution.worker, "train_together", narrow)
    graph = graph_of(methods=METHODS)
    lab.run(graph)
    assert equal(contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}, alone)
    assert set(together) == {1, 2}
    halved = [e["message"] for e in lab.events if e["event"] == "out_of_memory"]
    assert halved == 2 * ["out of memory; tried 3 tasks in halves"]


@pytest.mark.usefixtures("together")
def test_whatever_goes_wrong_with_several_is_left_to_each(
    graph_of: GraphOf, lab: Lab, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that only several at once have costs nobody anything but time, and is said."""
    train = harness.execution.worker.train_together

    def shy(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if len(trainers) > 1:
            raise RuntimeError("too many")
        return train(trainers, *args, **kwargs)

    monkeypatch.setattr(harness.execution.worker, "train_together", shy)
    graph = graph_of(methods=METHODS)
    assert not lab.run(graph).failures
    assert equal(contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}, alone)
    parted = [event["message"] for event in lab.events if event["event"] == "siblings_parted"]
    assert parted
    assert all(message.startswith("siblings are trained one by one: RuntimeError: too many") for message in parted)


@pytest.mark.usefixtures("together")
def test_diverging_siblings_fail_their_cells(graph_of: GraphOf, lab: Lab) -> None:
    """Each is told with its epoch, as alone."""
    hot = {"learning_rate": 1e12, "warmup": 0.0}
    graph = graph_of(methods=["deep"], settings=[{"architecture": "perceptron", "recipe": hot}])
    ledger = lab.run(graph)
    assert len(ledger.failures) == 3
    assert all(message.startswith("diverged in epoch 1") for message in ledger.failures.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whole_runs_on_a_device(graph_of: GraphOf, lab: Lab, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings are trained side by side there, and the board is near that of one by one and that of the CPU."""
    monkeypatch.setattr("harness.training.cuda_graph.CAPTURE_FROM", 0)
    graph = graph_of(methods=METHODS, recipe={**RECIPE, "precision": precision})
    boards, sizes = [], []
    train = harness.execution.worker.train_together

    def counted(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(trainers))
        return train(trainers, *args, **kwargs)

    monkeypatch.setattr(harness.execution.worker, "train_together", counted)
    for name, device in (("side by side", "cuda"), ("one by one", "cuda"), ("on the CPU", "cpu")):
        if name == "one by one":
            assert max(sizes) == 3
            monkeypatch.setenv("HARNESS_EAGER", "1")
        assert not lab.run(graph, store=Store(lab.folder / name), device=device).failures
        rows = read_rows(lab.out)
        boards.append(rows[rows["metric"] == "ensemble_accuracy"].set_index("method")["value"])
    assert (boards[0] - boards[1]).abs().max() < 10
    assert (boards[0] - boards[2]).abs().max() < 10


@pytest.mark.usefixtures("together")
def test_two_runs_share_siblings(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Of two runs on one store each trains the siblings that it got the leases of, and waits for the others."""
    graph = graph_of(methods=METHODS)
    other = lab.run_with_another(graph)
    assert equal(contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}, alone)
    begun = [e["task"] for e in [*lab.events, *other.events] if e["event"] == "train_started"]
    assert len(begun) == len(set(begun))
