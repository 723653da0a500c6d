"""Memory that runs out: a group is halved and tried again down to one, which is said; results are the same."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import Lab
from faults.rig import contents
from harness.api.specs import CheckSpec, SettingSpec
from harness.api.task import Outcome, Task
from harness.errors import TaskFailed, is_out_of_memory
from harness.execution.batching import GroupRunner
from harness.execution.context import RunContext
from harness.execution.worker import MemoryExhausted
from harness.plan.graph import Graph
from harness.store import Store
from harness.telemetry.events import Event, OutOfMemory

GraphOf = Callable[..., Graph]


def group_runner(lab: Lab, events: list[Event]) -> GroupRunner:
    """Return what does groups of tasks in this process."""
    return GroupRunner(RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", events.append, lambda: False))


def tasks(count: int) -> list[Task]:
    """Return tasks that are never done."""
    setting = SettingSpec(format=2, dataset={}, architecture={}, recipe={})
    spec = CheckSpec(format=2, setting=setting, objective={}, teacher=None)
    return [Task(f"{number:064x}", spec, (), "group") for number in range(count)]


@pytest.mark.parametrize(
    ("fits", "sizes"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 4, 2, 2]), (1, [8, 4, 2, 1, 1, 2, 1, 1])]
)
def test_group_is_halved_until_it_fits(lab: Lab, fits: int, sizes: list[int]) -> None:
    """Whatever there is room for, all tasks are done, in their order, and every halving is said."""
    events: list[Event] = []
    asked: list[int] = []

    def do(group: Sequence[Task], last: bool) -> list[Outcome]:
        asked.append(len(group))
        if len(group) > fits:
            raise MemoryExhausted
        return [Outcome(task.key, "done") for task in group]

    outcomes = group_runner(lab, events).run_with_oom_backoff(tasks(8), do)
    assert [outcome.key for outcome in outcomes] == [task.key for task in tasks(8)]
    assert asked[: len(sizes)] == sizes[: len(asked)]
    halved = [event.message for event in events if isinstance(event, OutOfMemory)]
    assert all("out of memory; tried" in message for message in halved)
    assert len(halved) == sum(size > fits for size in asked)


def test_one_task_is_tried_twice_and_then_fails(lab: Lab) -> None:
    """Alone, with all else let go; the last try says so itself."""
    lasts: list[bool] = []

    def do(group: Sequence[Task], last: bool) -> list[Outcome]:
        lasts.append(last)
        if not last:
            raise MemoryExhausted
        return [Outcome(group[0].key, "failed", "out of memory")]

    [outcome] = group_runner(lab, []).run_with_oom_backoff(tasks(1), do)
    assert lasts == [False, True]
    assert outcome.status == "failed"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["host", "device", "torch's host", "cublas"],
)
def test_training_that_runs_out_of_memory_once_is_the_same_training(graph_of: GraphOf, lab: Lab, error: Exception) -> None:
    """Weights and values are those of a run with memory enough; the user reads that it was tried again."""
    assert is_out_of_memory(error)
    calls = itertools.count()

    class Hungry(toys.Perceptron):
        def build(self, shape: tuple[int, int, int], num_classes: int) -> Any:
            if next(calls) in (1, 7):
                raise error
            return super().build(shape, num_classes)

    graph = graph_of(methods=["deep"])
    whole = Store(lab.folder / "whole")
    lab.run(graph, store=whole)
    lab.events.clear()
    assert not lab.run(graph, toys.catalogue(("architecture", Hungry))).failures
    assert contents(lab.store) == contents(whole)
    assert lab.messages(OutOfMemory)


def test_memory_is_really_let_go_for_the_second_try(graph_of: GraphOf, lab: Lab) -> None:
    """A metric that needs the room of the data sets and networks that the worker keeps gets it."""
    seen: list[int] = []

    class Greedy(harness.Metric):
        name = "greedy"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            gc.collect()
            seen.append(sum(type(o) is harness.EvaluatedEnsemble for o in gc.get_objects()))
            if len(seen) == 1:
                bytearray(1 << 60)
            return [harness.MetricValue("greedy", 1.0)]

    catalogue = toys.catalogue(("metric", Greedy))
    graph = graph_of(catalogue, methods=["deep"], metrics=["ensemble_accuracy", "greedy"])
    assert not lab.run(graph, catalogue).failures
    assert len(seen) == 2
    assert seen[0] == seen[1]  # the first one is not alive any more
    assert lab.messages(OutOfMemory) == ["out of memory; tried alone, once more"]


def test_other_errors_are_not_taken_for_memory() -> None:
    """Only what says so."""
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(TaskFailed("out of memory"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))
