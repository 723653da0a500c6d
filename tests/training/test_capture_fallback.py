"""When steps are captured, and what happens if they cannot be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch

from harness import Recipe
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import CapturePolicy, CudaGraphStep, EagerStep, StepFunction, make_step_function
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.stepping import Stepping
from harness.training.trainer import Trainer
from siblings import Family, same
from training.captured import started
from training.recorded_graphs import Failure, RecordedGraphs


def policy(graphs: RecordedGraphs, capture_from: int = 0, compile_from: int = 10**9) -> CapturePolicy:
    """Return a policy that records graphs on the CPU."""
    return CapturePolicy(capture_from, compile_from, lambda device: graphs)


def make(trainers: Sequence[Trainer], steps: int, *policies: CapturePolicy) -> StepFunction:
    """Return the step function of siblings with some steps ahead."""
    return make_with_stepping(trainers, steps, *policies)[0]


def make_with_stepping(trainers: Sequence[Trainer], steps: int, *policies: CapturePolicy) -> tuple[StepFunction, Stepping]:
    """Return the step function of siblings with some steps ahead, and how it takes steps."""
    states = [trainer.state for trainer in trainers]
    inputs = [trainer.next_inputs() for trainer in trainers]
    return make_step_function(states, inputs, steps, Stopwatch(), *policies)


def test_steps_on_the_cpu_are_eager() -> None:
    """The CPU records no graphs, however many steps are ahead."""
    assert isinstance(make(started(Family("perceptron", Recipe(batch_size=16))), 10**6), EagerStep)


@pytest.mark.parametrize(("steps", "kind"), [(99, EagerStep), (100, CudaGraphStep)])
def test_few_steps_are_eager(steps: int, kind: type) -> None:
    """Steps are captured if as many are ahead as the policy asks for, 100 by default."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)))
    assert CapturePolicy().capture_from == 100
    assert isinstance(make(trainers, steps, policy(RecordedGraphs(), 100)), kind)


@pytest.mark.parametrize(("steps", "options", "graphs_compiled"), [(499, {}, 0), (500, {}, 1), (500, {"batchnorm": True}, 0)])
def test_many_steps_are_compiled(steps: int, options: dict[str, bool], graphs_compiled: int) -> None:
    """Kernels are compiled if siblings have as many steps ahead together as the policy asks for, and no buffers."""
    graphs = RecordedGraphs()
    trainers = started(Family("perceptron", Recipe(batch_size=16), **options))
    make(trainers, steps, policy(graphs, compile_from=1000))
    assert len(graphs.compiled) == graphs_compiled


def test_short_training_of_a_shape_that_was_compiled() -> None:
    """It is compiled too; one of another shape is not, and it is captured."""
    graphs = RecordedGraphs()
    few = policy(graphs, compile_from=1000)
    recipe = Recipe(batch_size=16)
    manners = []
    for family, steps in [
        (Family("perceptron", recipe), 10),
        (Family("perceptron", recipe), 1000),
        (Family("perceptron", recipe), 10),
        (Family("perceptron", recipe, width=5), 10),
        (Family("perceptron", Recipe(batch_size=8)), 10),
        (Family("perceptron", recipe, distilled=True), 10),
    ]:
        manners.append(make_with_stepping(started(family, 1), steps, few)[1].manner)
    assert manners == ["captured", "compiled", "compiled", "captured", "captured", "captured"]


def test_harness_eager_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is captured."""
    monkeypatch.setenv("HARNESS_EAGER", "1")
    trainers = started(Family("perceptron", Recipe(batch_size=16)))
    assert isinstance(make(trainers, 10**6, policy(RecordedGraphs())), EagerStep)


@pytest.mark.parametrize("members", [1, 2])
def test_steps_that_cannot_be_captured_are_eager(members: int) -> None:
    """Every attempt that fails is part of the reason, with its error; without a callback for it, the reason is a warning."""
    graphs = RecordedGraphs(Failure("new stream", RuntimeError("no graphs today"), times=4))
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
