"""Siblings that a worker trains side by side, as on a GPU: the results equal those of training one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import RECIPE, Lab, stop_after
from harness.api.engine import EngineContext
from harness.api.task import Task
from harness.errors import DeviceBroken, Interrupted
from harness.execution.engines.local import InProcess, LocalEngine
from harness.execution.siblings import SiblingPolicy, TrainTogether
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.events import OutOfMemory, SiblingsSeparated, TrainingStepped
from harness.training.cuda_graph import CapturePolicy
from harness.training.loop import train_together

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "swe", {"distilled": {"fork_epoch": 1}}, "distilled_deep"]


def always(group: Sequence[Task], device: torch.device) -> bool:
    """Train siblings side by side, also on the CPU."""
    return True


def never(group: Sequence[Task], device: torch.device) -> bool:
    """Train siblings one by one."""
    return False


class InThisProcess(LocalEngine):
    """Trains in this process on a GPU too, so that its data sets and its `train` functions are the test's."""

    def start(self, context: EngineContext) -> InProcess:
        return InProcess(context)


def counting(sizes: list[int], **options: Any) -> TrainTogether:
    """Return `train_together` with options; each call appends the number of its siblings to `sizes`."""

    def train(trainers: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(trainers))
        return train_together(trainers, *args, **options, **kwargs)

    return train


def failing_above(most: int, error: Exception, sizes: list[int]) -> TrainTogether:
    """Return `train_together` that raises an error for more than `most` siblings, and counts like `counting`."""
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
    """Return whether two mappings of tensors by key and name are equal to the bit."""
    if left.keys() != right.keys():
        return False
    for key, tensors in left.items():
        if tensors.keys() != right[key].keys():
            return False
        if not all(torch.equal(tensor, right[key][name]) for name, tensor in tensors.items()):
            return False
    return True


@pytest.fixture
def alone(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """The outcome of a run that trains siblings one by one."""
    store = Store(tmp_path / "alone")
    graph = graph_of(methods=METHODS)
    lab.run(graph, store=store)
    lab.events.clear()
    return contents(store, graph) | {"rows": {"rows": rows(lab)}}


def rows(lab: Lab) -> torch.Tensor:
    """Return the bytes of a lab's rows as a tensor, so that they are compared as weights are."""
    return torch.frombuffer(bytearray((lab.out / "results.csv").read_bytes()), dtype=torch.uint8)


def outcome(lab: Lab, graph: Graph) -> dict[str, Any]:
    """Return the tensors of all trainings in a lab's store, and its rows."""
    return contents(lab.store, graph) | {"rows": {"rows": rows(lab)}}


def test_siblings_side_by_side(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Weights, optimizer states and rows equal those of training one by one to the bit; three siblings were trained at once."""
    graph = graph_of(methods=METHODS)
    sizes: list[int] = []
    lab.run(graph, siblings=SiblingPolicy(always, counting(sizes)))
    assert equal(outcome(lab, graph), alone)
    assert max(sizes) == 3
    assert max(event.siblings for event in lab.events if isinstance(event, TrainingStepped)) == 3
    started = lab.trainings_started()
    assert len(started) == len(set(started)) == sum(task.kind == "train" for task in graph.tasks.values())


@pytest.mark.parametrize("steps", [3, 17])
def test_group_that_is_stopped_several_times(graph_of: GraphOf, lab: Lab, alone: dict[str, Any], steps: int) -> None:
    """Each sibling is saved; resumed together or, every second time, one by one, the outcome is the same."""
    graph = graph_of(methods=METHODS)
    stops = 0
    while True:
        policy = SiblingPolicy(always if stops % 2 == 0 else never)
        try:
            lab.run(graph, stopping=stop_after(steps + 31 * stops), siblings=policy)
            break
        except Interrupted:
            stops += 1
    assert stops > 1
    assert equal(outcome(lab, graph), alone)


def test_group_that_does_not_fit(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """A group of three is halved; the limit is learned and reported once per objective."""
    graph = graph_of(methods=METHODS)
    sizes: list[int] = []
    train = failing_above(2, torch.OutOfMemoryError("CUDA out of memory"), sizes)
    lab.run(graph, siblings=SiblingPolicy(always, train))
    assert equal(outcome(lab, graph), alone)
    assert set(sizes) == {1, 2}
    assert lab.messages(OutOfMemory) == 2 * ["out of memory; tried 3 tasks in halves"]


def test_error_that_only_several_siblings_raise(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Each sibling is trained alone, and the error is reported."""
    graph = graph_of(methods=METHODS)
    train = failing_above(1, RuntimeError("too many"), [])
    assert lab.run(graph, siblings=SiblingPolicy(always, train)).failures == {}
    assert equal(outcome(lab, graph), alone)
    messages = lab.messages(SiblingsSeparated)
    assert messages != []
    for message in messages:
        assert message.startswith("siblings are trained one by one: RuntimeError: too many (test_batching.py:")


def test_siblings_that_diverge(graph_of: GraphOf, lab: Lab) -> None:
    """Each of them fails, and the message names the epoch."""
    hot = {"learning_rate": 1e12, "warmup": 0.0}
    graph = graph_of(methods=["deep"], settings=[{"architecture": "perceptron", "recipe": hot}])
    state = lab.run(graph, siblings=SiblingPolicy(always))
    assert len(state.failures) == 3
    for message in state.failures.values():
        assert message.startswith("diverged in epoch 1: the training loss is ")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_runs_on_a_gpu(graph_of: GraphOf, lab: Lab, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies of siblings trained side by side are within 10 points of those trained one by one, and of the CPU's."""
    graph = graph_of(methods=METHODS, recipe={**RECIPE, "precision": precision})
    boards = []
    sizes: list[int] = []
    for name, device in (("side by side", "cuda"), ("one by one", "cuda"), ("on the CPU", "cpu")):
        if name == "one by one":
            assert max(sizes) == 3
            monkeypatch.setenv("HARNESS_EAGER", "1")
        siblings = SiblingPolicy(train=counting(sizes, capture_policy=CapturePolicy(capture_from=0)))
        state = lab.run(graph, store=Store(lab.folder / name), device=device, siblings=siblings, engine=InThisProcess())
        assert state.failures == {}
        rows_of_run = read_rows(lab.out)
        accuracies = rows_of_run[rows_of_run["metric"] == "ensemble_accuracy"]
        boards.append(accuracies.set_index("method")["value"])
    assert (boards[0] - boards[1]).abs().max() < 10
    assert (boards[0] - boards[2]).abs().max() < 10


def test_two_runs_on_one_store(graph_of: GraphOf, lab: Lab, alone: dict[str, Any]) -> None:
    """Each run trains the siblings whose leases it acquired; no training starts twice."""
    graph = graph_of(methods=METHODS)
    other = lab.run_with_another(graph, SiblingPolicy(always))
    assert equal(outcome(lab, graph), alone)
    started = [*lab.trainings_started(), *other.trainings_started()]
    assert len(started) == len(set(started))


def test_device_that_breaks_while_siblings_train(graph_of: GraphOf, lab: Lab) -> None:
    """They are neither tried in halves nor one by one: this process can do no more of them."""
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nFor debugging consider")
    sizes: list[int] = []
    with pytest.raises(DeviceBroken, match=r"^CUDA error: an illegal memory access was encountered$"):
        lab.run(graph_of(methods=["deep"]), siblings=SiblingPolicy(always, failing_above(1, error, sizes)))
    assert sizes == []
    assert not any(isinstance(event, OutOfMemory | SiblingsSeparated) for event in lab.events)
