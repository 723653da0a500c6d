"""When steps are captured, and what happens if they cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from harness import Recipe
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import CapturePolicy, CudaGraphStep, EagerStep, StepFunction, make_step_function
from harness.training.graph_backend import Graph, Stream
from harness.training.loop import Point, Trainer, train_together
from siblings import Family, same
from training.captured import captured, started
from training.recorded_graphs import FakeStream, RecordedGraphs

OUT_OF_MEMORY = [torch.OutOfMemoryError("full"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]


def policy(graphs: RecordedGraphs, capture_from: int = 0, compile_from: int = 10**9) -> CapturePolicy:
    """Return a policy that records graphs on the CPU."""
    return CapturePolicy(capture_from, compile_from, lambda device: graphs)


def make(trainers: Sequence[Trainer], steps: int, *policies: CapturePolicy) -> StepFunction:
    """Return the step function of siblings with some steps ahead."""
    states = [trainer.state for trainer in trainers]
    inputs = [trainer.next_inputs() for trainer in trainers]
    return make_step_function(states, inputs, steps, Stopwatch(), *policies)[0]


class RefusedGraphs(RecordedGraphs):
    """A device on which every capture fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def new_stream(self) -> Stream:
        raise self._error


class PoisonedGraphs(RecordedGraphs):
    """As CUDA does it: the end of a failed capture raises an error of its own and leaves the capture's stream current."""

    def record(self, work: Callable[[], None]) -> Graph:
        self.set_stream(FakeStream("capture", self.waits))
        try:
            return super().record(work)
        except BaseException:
            raise RuntimeError("operation failed due to a previous error during capture") from None


class FullWhileRecording(nn.Module):
    """Runs out of memory while its pass is recorded."""

    def __init__(self, graphs: RecordedGraphs) -> None:
        super().__init__()
        self._graphs = graphs

    def forward(self, x: Tensor) -> Tensor:
        if self._graphs.recording:
            raise torch.OutOfMemoryError("full")
        return x


def test_steps_on_the_cpu_are_eager() -> None:
    """The CPU records no graphs, however many steps are ahead."""
    assert isinstance(make(started(Family("perceptron", Recipe(batch_size=16))), 10**6), EagerStep)


@pytest.mark.parametrize(("steps", "kind"), [(299, EagerStep), (300, CudaGraphStep)])
def test_few_steps_are_eager(steps: int, kind: type) -> None:
    """Steps are captured if as many are ahead as the policy asks for, 300 by default."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)))
    assert CapturePolicy().capture_from == 300
    assert isinstance(make(trainers, steps, policy(RecordedGraphs(), 300)), kind)


@pytest.mark.parametrize(("steps", "options", "graphs_compiled"), [(499, {}, 0), (500, {}, 1), (500, {"batchnorm": True}, 0)])
def test_many_steps_are_compiled(steps: int, options: dict[str, bool], graphs_compiled: int) -> None:
    """Kernels are compiled if siblings have as many steps ahead together as the policy asks for, and no buffers."""
    graphs = RecordedGraphs()
    trainers = started(Family("perceptron", Recipe(batch_size=16), **options))
    make(trainers, steps, policy(graphs, compile_from=1000))
    assert len(graphs.compiled) == graphs_compiled


def test_harness_eager_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is captured."""
    monkeypatch.setenv("HARNESS_EAGER", "1")
    trainers = started(Family("perceptron", Recipe(batch_size=16)))
    assert isinstance(make(trainers, 10**6, policy(RecordedGraphs())), EagerStep)


@pytest.mark.parametrize("members", [1, 2])
def test_steps_that_cannot_be_captured_are_eager(members: int) -> None:
    """Every attempt that fails is part of the reason, with its error; without a callback for it, the reason is a warning."""
    graphs = RefusedGraphs(RuntimeError("no graphs today"))
    family = Family("perceptron", Recipe(epochs=1, batch_size=16))
    reason = r"not compiled: RuntimeError: no graphs today \(.*\); not captured: RuntimeError: no graphs today"
    found = []
    for options in ({"on_stepping": found.append}, {}):
        trainers, starts = zip(*map(family.sibling, range(members)), strict=True)
        warns = pytest.warns(RuntimeWarning, match=f"steps are eager: {reason}")
        with nullcontext() if options else warns:
            train_together(trainers, starts, 1, capture_policy=policy(graphs, compile_from=0), **options)
    assert found[0].manner == "eager"
    assert re.match(reason, found[0].fallback)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cudnn"])
def test_one_network_that_does_not_fit_a_capture_is_eager(error: Exception) -> None:
    """A capture takes more memory than eager steps, which may still fit."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)), 1)
    assert isinstance(make(trainers, 10**6, policy(RefusedGraphs(error))), EagerStep)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cudnn"])
def test_siblings_that_do_not_fit_together(error: Exception) -> None:
    """The out-of-memory error is raised, so that the caller can halve the group."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)), 2)
    with pytest.raises(type(error), match=str(error)):
        make(trainers, 10**6, policy(RefusedGraphs(error)))


def test_failed_capture_raises_its_cause_and_returns_the_stream() -> None:
    """The error is the network's, not that of the capture's end; the caller's stream is current again."""
    graphs = PoisonedGraphs()
    family = Family("perceptron", Recipe(batch_size=16))
    trainer, start = family.sibling(0, nn.Sequential(*family.module(0), FullWhileRecording(graphs)))
    trainer.load(start)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        captured([trainer], graphs)
    assert graphs.current_stream().name == "caller"


def test_group_trains_with_captured_steps() -> None:
    """Two epochs of captured steps end close to two epochs of eager steps."""
    family = Family("perceptron", Recipe(epochs=2, batch_size=24), dropout=0.3)
    graphs = RecordedGraphs()
    ends = []
    for options in ({}, {"capture_policy": policy(graphs)}):
        trainers, starts = zip(*map(family.sibling, range(2)), strict=True)
        ends.append(train_together(trainers, starts, 2, **options))
    assert graphs.waits
    for eager_end, captured_end in zip(*ends, strict=True):
        assert isinstance(eager_end, Point)
        assert not same(eager_end, family.sibling(0)[1])
        for name, weights in eager_end.weights.items():
            torch.testing.assert_close(captured_end.weights[name], weights, rtol=1e-3, atol=1e-5)
