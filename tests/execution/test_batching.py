"""Siblings that a worker trains side by side, as it does on a GPU: each comes out as if trained alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import RECIPE, Lab
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.siblings import SiblingPolicy, TrainTogether
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.events import OutOfMemory, SiblingsSeparated
from harness.training.cuda_graph import CapturePolicy
from harness.training.loop import train_together

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "swe", {"distilled": {"fork_epoch": 1}}, "distilled_deep"]


def always(group: Sequence[Task], device: torch.device) -> bool:
    """Train siblings side by side on the CPU, too."""
    return True


def never(group: Sequence[Task], device: torch.device) -> bool:
    """Train siblings one by one."""
    return False


def counting(sizes: list[int], **options: Any) -> TrainTogether:
    """Return the training of siblings, with options, which also notes how many were trained at once."""

    def train(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(trainers))
        return train_together(trainers, *args, **options, **kwargs)

    return train


def failing_above(most: int, error: Exception, sizes: list[int]) -> TrainTogether:
    """Return a training of siblings that raises an error for more than `most` of them."""
    train = counting(sizes)

    def train_few(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if len(trainers) > most:
            raise error
        return train(trainers, *args, **kwargs)

    return train_few


def contents(store: Store, graph: Graph) -> dict[str, Any]:
    """Return the tensors of every training, by key and part."""
    found = {}
    for key, task in graph.tasks.items():
        if task.kind == "train":
            for part in store.meta(key)["files"]:
                found[f"{key} {part}"] = store.tensors(key, part)
    return found


def equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Return whether two stores hold the same trainings, to the bit."""
    if left.keys() != right.keys():
        return False
    return all(torch.equal(left[key][name], right[key][name]) for key in left for name in left[key])


@pytest.fixture
def alone(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """All trainings, each done alone, and the rows."""
    store = Store(tmp_path / "alone")
    lab.run(graph_of(methods=METHODS), store=store)
    lab.events.clear()
    return contents(store, graph_of(methods=METHODS)) | {"rows": {"rows": rows(lab)}}


def rows(lab: Lab) -> torch.Tensor:
    """Return the bytes of the rows as a tensor, to compare them like the rest."""
    return torch.frombuffer(bytearray((lab.out / "results.csv").read_bytes()), dtype=torch.uint8)


def outcome(lab: Lab, graph: Graph) -> dict[str, Any]:
    """Return all trainings of a lab's store, and the rows."""
    return contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}


def test_siblings_side_by_side_equal_siblings_alone(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Weights, optimizer states and rows are equal to the bit; members of a method were trained at once."""
    graph = graph_of(methods=METHODS)
    sizes: list[int] = []
    lab.run(graph, siblings=SiblingPolicy(always, counting(sizes)))
    assert equal(outcome(lab, graph), alone)
    assert max(sizes) == 3
    started = lab.trainings_started()
    assert len(started) == len(set(started)) == sum(task.kind == "train" for task in graph.tasks.values())


@pytest.mark.parametrize("steps", [3, 17])
def test_stopped_group_is_resumed(graph_of: GraphOf, lab: Lab, alone: dict[str, Any], steps: int) -> None:
    """Stopped again and again, each sibling's state is saved; they are resumed together or, every other time, alone."""
    graph = graph_of(methods=METHODS)
    stops = 0
    while True:
        looks = iter(range(10**6))
        policy = SiblingPolicy(always if stops % 2 == 0 else never)
        try:
            lab.run(graph, stopping=lambda looks=looks, last=steps + 31 * stops: next(looks) >= last, siblings=policy)
            break
        except Interrupted:
            stops += 1
    assert stops > 1
    assert equal(outcome(lab, graph), alone)


def test_group_that_does_not_fit_is_halved(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """If three siblings exhaust the memory, two and one are trained; that is learned and reported once per objective."""
    graph = graph_of(methods=METHODS)
    sizes: list[int] = []
    train = failing_above(2, torch.OutOfMemoryError("CUDA out of memory"), sizes)
    lab.run(graph, siblings=SiblingPolicy(always, train))
    assert equal(outcome(lab, graph), alone)
    assert set(sizes) == {1, 2}
    assert lab.messages(OutOfMemory) == 2 * ["out of memory; tried 3 tasks in halves"]


def test_error_of_several_siblings_leaves_each_alone(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """After an error that only several at once have, each is trained alone; the error is reported."""
    graph = graph_of(methods=METHODS)
    train = failing_above(1, RuntimeError("too many"), [])
    assert not lab.run(graph, siblings=SiblingPolicy(always, train)).failures
    assert equal(outcome(lab, graph), alone)
    reported = lab.messages(SiblingsSeparated)
    assert reported
    assert all(message.startswith("siblings are trained one by one: RuntimeError: too many") for message in reported)


def test_diverging_siblings_fail_their_cells(graph_of: GraphOf, lab: Lab) -> None:
    """Each failure names the epoch, as alone."""
    hot = {"learning_rate": 1e12, "warmup": 0.0}
    graph = graph_of(methods=["deep"], settings=[{"architecture": "perceptron", "recipe": hot}])
    state = lab.run(graph, siblings=SiblingPolicy(always))
    assert len(state.failures) == 3
    assert all(message.startswith("diverged in epoch 1") for message in state.failures.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whole_runs_on_a_device(graph_of: GraphOf, lab: Lab, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings are trained side by side there, and the board is near that of one by one and that of the CPU."""
    graph = graph_of(methods=METHODS, recipe={**RECIPE, "precision": precision})
    boards, sizes = [], []
    for name, device in (("side by side", "cuda"), ("one by one", "cuda"), ("on the CPU", "cpu")):
        if name == "one by one":
            assert max(sizes) == 3
            monkeypatch.setenv("HARNESS_EAGER", "1")
        siblings = SiblingPolicy(train=counting(sizes, capture_policy=CapturePolicy(capture_from=0)))
        assert not lab.run(graph, store=Store(lab.folder / name), device=device, siblings=siblings).failures
        found = read_rows(lab.out)
        boards.append(found[found["metric"] == "ensemble_accuracy"].set_index("method")["value"])
    assert (boards[0] - boards[1]).abs().max() < 10
    assert (boards[0] - boards[2]).abs().max() < 10


def test_two_runs_share_siblings(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Of two runs on one store each trains the siblings whose leases it acquired, and waits for the others."""
    graph = graph_of(methods=METHODS)
    other = lab.run_with_another(graph, SiblingPolicy(always))
    assert equal(outcome(lab, graph), alone)
    started = [*lab.trainings_started(), *other.trainings_started()]
    assert len(started) == len(set(started))
