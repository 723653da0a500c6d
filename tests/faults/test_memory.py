"""Tasks that run out of memory: groups are halved, single tasks are tried twice, and the results are the same."""

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
    """Return a runner of groups of tasks in this process."""
    return GroupRunner(RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", events.append, lambda: False))


def tasks(count: int) -> list[Task]:
    """Return tasks of one group, which a test does not really do."""
    setting = SettingSpec(format=2, dataset={}, architecture={}, recipe={})
    spec = CheckSpec(format=2, setting=setting, objective={}, teacher=None)
    return [Task(f"{number:064x}", spec, (), "group") for number in range(count)]


@pytest.mark.parametrize(
    ("fits", "sizes"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 4, 2, 2]), (1, [8, *2 * [4, 2, 1, 1, 2, 1, 1]])]
)
def test_group_that_does_not_fit(lab: Lab, fits: int, sizes: list[int]) -> None:
    """It is halved until it fits, all tasks are done in their order, and each halving is reported."""
    events: list[Event] = []
    tried: list[int] = []

    def do(group: Sequence[Task], last: bool) -> list[Outcome]:
        tried.append(len(group))
        if len(group) > fits:
            raise MemoryExhausted
        return [Outcome(task.key, "done") for task in group]

    outcomes = group_runner(lab, events).run_with_oom_backoff(tasks(8), do)
    assert [outcome.key for outcome in outcomes] == [task.key for task in tasks(8)]
    assert tried == sizes
    messages = [event.message for event in events if isinstance(event, OutOfMemory)]
    assert messages == [f"out of memory; tried {size} tasks in halves" for size in tried if size > fits]


def test_one_task_that_does_not_fit(lab: Lab) -> None:
    """It is tried twice; the second try is the last one, and its outcome counts."""
    tries: list[bool] = []

    def do(group: Sequence[Task], last: bool) -> list[Outcome]:
        tries.append(last)
        if not last:
            raise MemoryExhausted
        return [Outcome(group[0].key, "failed", "out of memory")]

    [outcome] = group_runner(lab, []).run_with_oom_backoff(tasks(1), do)
    assert tries == [False, True]
    assert (outcome.status, outcome.message) == ("failed", "out of memory")


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
def test_training_that_runs_out_of_memory_once(graph_of: GraphOf, lab: Lab, error: Exception) -> None:
    """It is tried again, which is reported, and ends with the weights and values of a run with enough memory."""
    assert is_out_of_memory(error)
    calls = itertools.count()

    class OutOfMemoryTwice(toys.Perceptron):
        def build(self, shape: tuple[int, int, int], num_classes: int) -> Any:
            if next(calls) in (1, 7):
                raise error
            return super().build(shape, num_classes)

    graph = graph_of(methods=["deep"])
    whole = Store(lab.folder / "whole")
    lab.run(graph, store=whole)
    lab.events.clear()
    assert lab.run(graph, toys.catalogue(("architecture", OutOfMemoryTwice))).failures == {}
    assert contents(lab.store) == contents(whole)
    assert lab.messages(OutOfMemory) == 2 * ["out of memory; tried alone, once more"]


def count_ensembles() -> int:
    """Return the number of evaluated ensembles in this process's memory."""
    gc.collect()
    return len([value for value in gc.get_objects() if type(value) is harness.EvaluatedEnsemble])


def test_memory_in_the_second_try(graph_of: GraphOf, lab: Lab) -> None:
    """The ensemble of the first try is freed before the second one."""
    before = count_ensembles()
    alive: list[int] = []

    class Large(harness.Metric):
        name = "large"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            alive.append(count_ensembles())
            if len(alive) == 1:
                bytearray(1 << 60)
            return [harness.MetricValue("large", 1.0)]

    catalogue = toys.catalogue(("metric", Large))
    graph = graph_of(catalogue, methods=["deep"], metrics=["ensemble_accuracy", "large"])
    assert lab.run(graph, catalogue).failures == {}
    assert alive == [before + 1, before + 1]
    assert lab.messages(OutOfMemory) == ["out of memory; tried alone, once more"]


def test_errors_that_are_not_out_of_memory() -> None:
    """Other errors of torch, failures of tasks and full disks do not count as out of memory."""
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(TaskFailed("out of memory"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))
