"""A capture that fails at any point: what it took is given back, the reason is told, and the next training is captured."""

from __future__ import annotations

import gc
from functools import cache

import pytest
import torch

from harness import Recipe
from harness.errors import DeviceBroken
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import CapturePolicy, CudaGraphStep, EagerStep, StepFunction, make_step_function
from harness.training.stepping import Stepping
from harness.training.trainer import Trainer
from siblings import Family
from training.captured import captured, copies, eager, equal, started, take
from training.recorded_graphs import Failure, RecordedGraphs, recorded_operations

FAMILY = Family("perceptron", Recipe(batch_size=16, precision="fp32"))
NEVER_COMPILED = 10**9

POINTS = [
    "new stream",
    "requirements",
    "new capture",
    "routing",
    "generator",
    "begin",
    "fork",
    "first operation",
    "middle operation",
    "last operation",
    "join",
    "end",
    "instantiate",
    "replay",
    "second replay",
]

ERRORS = {"error": RuntimeError("no graphs today"), "out of memory": torch.OutOfMemoryError("CUDA out of memory")}


@cache
def operations(members: int) -> int:
    """Return how many operations a group's capture records."""
    return recorded_operations(lambda graphs: captured(started(FAMILY, members), graphs))


def failure(point: str, error: str, members: int, times: int = 1) -> Failure:
    """Return an error at a point of a group's capture."""
    place, _, kind = point.partition(" ")
    if kind == "operation":
        last = operations(members) - 1
        return Failure(kind, ERRORS[error], times, {"first": 0, "middle": last // 2, "last": last}[place])
    return Failure(point, ERRORS[error], times)


def make(trainers: list[Trainer], graphs: RecordedGraphs, compile_from: int = NEVER_COMPILED) -> tuple[StepFunction, Stepping]:
    """Return the step function of siblings, and how it takes steps."""
    states = [trainer.state for trainer in trainers]
    inputs = [trainer.next_inputs() for trainer in trainers]
    policy = CapturePolicy(0, compile_from, lambda device: graphs)
    return make_step_function(states, inputs, 1000, Stopwatch(), policy)


def assert_nothing_is_held(graphs: RecordedGraphs) -> None:
    """Assert that the device is as if no capture had been tried."""
    assert graphs.pools == set()
    assert graphs.routed == set()
    assert list(graphs.streams) == []
    assert graphs.unjoined == set()
    assert not graphs.generator_captures
    assert not graphs.recording
    assert graphs.current_stream().name == "caller"


def assert_captured_as_ever(graphs: RecordedGraphs, members: int) -> None:
    """Assert that the next training in the process is captured, and moves as eager steps do."""
    trainers, reference = started(FAMILY, members), started(FAMILY, members)
    step, stepping = make(trainers, graphs)
    assert stepping == Stepping("captured", members, "fp32", tf32=False)
    expected = take(reference, eager(reference), 3)
    assert float((take(trainers, step, 3) - expected).norm() / expected.norm()) < 1e-3
    assert len(graphs.pools) == 1
    assert len(graphs.streams) == members


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("point", POINTS)
def test_capture_that_fails_once(point: str, error: str, members: int) -> None:
    """States are equal to the bit, all is given back, the reason is told or the group is halved, the next one is captured."""
    graphs = RecordedGraphs(failure(point, error, members))
    trainers = started(FAMILY, members)
    before = copies(trainers)
    if error == "out of memory" and members > 1:
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            make(trainers, graphs)
    else:
        step, stepping = make(trainers, graphs)
        assert isinstance(step, EagerStep)
        assert (stepping.manner, stepping.siblings) == ("eager", members)
        assert stepping.fallback.startswith(f"not captured: {type(ERRORS[error]).__name__}: {ERRORS[error]}")
    assert graphs.failure.times == 0
    assert equal(copies(trainers), before)
    assert all(trainer.state.forward is trainer.network.module for trainer in trainers)
    assert_nothing_is_held(graphs)
    assert_captured_as_ever(graphs, members)


@pytest.mark.parametrize("point", POINTS)
def test_capture_that_always_fails(point: str) -> None:
    """A device that cannot capture at all is used eagerly, not given up."""
    graphs = RecordedGraphs(failure(point, "error", 1, times=100))
    for _ in range(2):
        assert make(started(FAMILY, 1), graphs)[1].manner == "eager"
    assert_nothing_is_held(graphs)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("point", ["compile", "trace"])
def test_compiler_that_fails(point: str, error: str, members: int) -> None:
    """Steps are captured without compiled kernels, unless several siblings run out of memory; both are retried next time."""
    graphs = RecordedGraphs(failure(point, error, members))
    trainers = started(FAMILY, members)
    before = copies(trainers)
    if error == "out of memory" and members > 1:
        with pytest.raises(Exception, match="out of memory"):
            make(trainers, graphs, compile_from=0)
    else:
        step, stepping = make(trainers, graphs, compile_from=0)
        assert isinstance(step, CudaGraphStep)
        assert stepping.manner == "captured"
        assert stepping.fallback.startswith("not compiled: ")
        assert str(ERRORS[error]) in stepping.fallback
        del step
    gc.collect()  # the compiler's errors are part of reference cycles
    assert equal(copies(trainers), before)
    assert_nothing_is_held(graphs)
    assert make(started(FAMILY, members), graphs, compile_from=0)[1] == Stepping("compiled", members, "fp32", tf32=False)


def test_replay_that_differs() -> None:
    """A graph that does something else than the step is discarded; the reason says how far it is off."""
    graphs = RecordedGraphs()
    trainers = started(FAMILY, 2)
    before = copies(trainers)
    optimizer = trainers[1].state.optimizer
    trainers[1].state.optimizer = Fickle(optimizer, graphs)
    step, stepping = make(trainers, graphs)
    trainers[1].state.optimizer = optimizer
    assert isinstance(step, EagerStep)
    assert stepping.fallback.startswith("not captured: NotCapturable: its replay is not the step: ")
    assert equal(copies(trainers), before)
    assert_nothing_is_held(graphs)
    assert_captured_as_ever(graphs, 2)


class Fickle:
    """An optimizer that takes another learning rate while its call is recorded."""

    def __init__(self, optimizer: object, graphs: RecordedGraphs) -> None:
        self.memory = optimizer.memory
        self._optimizer = optimizer
        self._graphs = graphs

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, rate: object, count: object) -> None:
        self._optimizer.step(parameters, gradient, 9.0 if self._graphs.recording else rate, count)


@pytest.mark.parametrize("error", ERRORS)
def test_device_that_is_broken_after_a_failure(error: str) -> None:
    """The error says so on one line, whatever the failure was: a new process must go on."""
    graphs = RecordedGraphs(failure("begin", error, 2), broken=True)
    trainers = started(FAMILY, 2)
    with pytest.raises(DeviceBroken) as broken:
        make(trainers, graphs)
    message = str(broken.value)
    assert message.startswith(
        f"stand-in: unusable in this process after a failure (not captured: {type(ERRORS[error]).__name__}"
    )
    assert "RuntimeError: an illegal memory access was encountered" in message
    assert "\n" not in message


def test_state_that_cannot_be_restored() -> None:
    """The training must not go on from it in this process."""
    graphs = RecordedGraphs(failure("begin", "error", 1))
    trainers = started(FAMILY, 1)
    trainers[0].state.optimizer = Shrinking(trainers[0].state.optimizer, graphs)
    with pytest.raises(DeviceBroken, match=r"^cpu: the state of a training cannot be restored: "):
        make(trainers, graphs)


class Shrinking:
    """An optimizer whose memory has another size after a failure."""

    def __init__(self, optimizer: object, graphs: RecordedGraphs) -> None:
        self.step = optimizer.step
        self._optimizer = optimizer
        self._graphs = graphs

    @property
    def memory(self) -> dict[str, torch.Tensor]:
        """The optimizer's memory."""
        memory = self._optimizer.memory
        if self._graphs.undone:
            return {name: vector[:-1] for name, vector in memory.items()}
        return memory
