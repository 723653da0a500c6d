"""How the steps of several siblings are taken: eagerly one after another, or on a GPU as one CUDA graph. Knows no epochs.

Launching the kernels of a step one by one takes longer than running them; a graph is launched as a whole. In the graph every
sibling has a stream of its own, so that the small kernels of one sibling fill the gaps of the others. A captured step reads its
indices, keys and learning rate from tensors that are rewritten before each replay.

A graph never changes what a step computes. Before it is used, its replay is compared with the eager step, from the current
state and with two sets of inputs. If the results differ, the graph is discarded with a warning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness import streams
from harness.errors import is_out_of_memory
from harness.telemetry.stopwatch import Stopwatch
from harness.text import describe_error
from harness.training.graph_backend import Graph, GraphBackend, capture, graph_backend
from harness.training.static_inputs import StaticInputs
from harness.training.step import StepInputs, TrainState, take_step
from harness.training.stepping import Manner, Stepping, uses_tf32
from harness.training.trace import NotCapturable, Trace, compare

StepFunction = Callable[[Sequence[StepInputs]], None]
"""Takes one step of every sibling, each with its inputs."""

_WARM_UP_STEPS = 3  # libraries choose kernels, allocate and compile during the first calls


@dataclass(frozen=True)
class CapturePolicy:
    """When steps are captured, and by what.

    `capture_from` is the least number of steps ahead for which a graph is tried, which takes some ten steps and a second.
    `compile_from` is the least number of steps ahead, summed over the siblings, for which kernels are compiled too, which takes
    about a minute. Both defaults are predicted, not measured. `backend` returns what records graphs on a device, or None.
    """

    capture_from: int = 300
    compile_from: int = 20_000
    backend: Callable[[torch.device], GraphBackend | None] = graph_backend


DEFAULT_POLICY = CapturePolicy()


def make_step_function(
    states: Sequence[TrainState],
    inputs: Sequence[StepInputs],
    steps: int,
    watch: Stopwatch,
    policy: CapturePolicy = DEFAULT_POLICY,
) -> tuple[StepFunction, Stepping]:
    """Return the fastest step function that works (compiled and captured, captured, or eager), and how it takes steps.

    `inputs` are those of the next step; `steps` is the number of steps ahead. Steps are eager on the CPU, and everywhere if
    HARNESS_EAGER is set in the environment. Raise the out-of-memory error if several siblings do not fit together.
    """
    stepping = _eager_stepping(states)
    backend = policy.backend(states[0].device)
    if backend is None or steps < policy.capture_from or capture_is_off():
        return EagerStep(states, watch), stepping
    reasons = []
    for compiled in _attempts(states, steps, policy):
        try:
            step = CudaGraphStep(states, inputs, watch, backend, compiled=compiled)
        except Exception as error:  # a compiler, a driver or a plugin's code may raise anything; the next attempt may work
            if is_out_of_memory(error) and len(states) > 1:
                raise
            reasons.append(f"not {_manner(compiled)}: {describe_error(error)}")
            continue
        return step, replace(stepping, manner=_manner(compiled), fallback="; ".join(reasons))
    return EagerStep(states, watch), replace(stepping, fallback="; ".join(reasons))


def _manner(compiled: bool) -> Manner:
    return "compiled" if compiled else "captured"


def _eager_stepping(states: Sequence[TrainState]) -> Stepping:
    state = states[0]
    return Stepping("eager", len(states), state.recipe.precision, uses_tf32(state.device))


def _attempts(states: Sequence[TrainState], steps: int, policy: CapturePolicy) -> list[bool]:
    """Return which captures to attempt, the best first: True is a compiled one."""
    # Buffers (running statistics) change in the vector that holds the parameters too; the compiler refuses that.
    compilable = not any(state.network.buffers for state in states)
    if compilable and steps * len(states) >= policy.compile_from:
        return [True, False]
    return [False]


def capture_is_off() -> bool:
    """Return whether HARNESS_EAGER is set, which helps if a driver or a network fails with graphs."""
    return bool(os.environ.get("HARNESS_EAGER"))


class EagerStep:
    """Takes the steps of one sibling after another, operation by operation."""

    def __init__(self, states: Sequence[TrainState], watch: Stopwatch) -> None:
        self._states = states
        self._watch = watch

    def __call__(self, inputs: Sequence[StepInputs]) -> None:
        for state, own_inputs in zip(self._states, inputs, strict=True):
            assert isinstance(own_inputs.noise, int)
            with streams.reseeded(own_inputs.noise, state.device):  # for drop paths and functional dropout
                take_step(state, own_inputs, self._watch)


class CudaGraphStep:
    """Takes the steps of all siblings by replaying one graph.

    Raise `NotCapturable` if that is impossible; the backend, the network and the compiler may raise other errors. The states
    are left as they were.
    """

    def __init__(
        self,
        states: Sequence[TrainState],
        inputs: Sequence[StepInputs],
        watch: Stopwatch,
        backend: GraphBackend,
        *,
        compiled: bool = False,
    ) -> None:
        self._states = states
        self._watch = watch
        self._backend = backend
        with watch("device"), backend.selected(), _fastest_convolutions():
            self._static_inputs = [StaticInputs(own, state.device) for own, state in zip(inputs, states, strict=True)]
            self._streams = [backend.new_stream() for _ in states]
            saved = [_copies(state) for state in states]
            try:
                self._graph = self._capture(inputs, saved, compiled)
            finally:
                _restore(states, saved)
                for state in states:
                    state.forward = state.network.module

    def __call__(self, inputs: Sequence[StepInputs]) -> None:
        with self._watch("device"), self._backend.selected():
            for static, own_inputs in zip(self._static_inputs, inputs, strict=True):
                static.write(own_inputs)
            self._graph.replay()

    def _capture(self, inputs: Sequence[StepInputs], saved: Sequence[Sequence[Tensor]], compiled: bool) -> Graph:
        """Take the step eagerly, capture it, and compare the replay with the eager step."""
        other_inputs = [_different(own, len(state.labels)) for own, state in zip(inputs, self._states, strict=True)]
        expected = self._traces(self._take_steps, inputs, saved)
        with self._requirements_checked():
            expected_of_others = self._traces(self._take_steps, other_inputs, saved)
        if compiled:
            for state in self._states:
                state.forward = self._backend.compile(state.network.module)
        for _ in range(_WARM_UP_STEPS):
            self._take_steps()
        if any(state.network.buffers_replaced for state in self._states):
            raise NotCapturable("the network replaces a buffer by a new tensor in its forward pass; a graph would not see it")
        graph = capture(self._backend, self._take_steps)
        compare(self._traces(graph.replay, inputs, saved), expected)
        compare(self._traces(graph.replay, other_inputs, saved), expected_of_others)
        return graph

    def _take_steps(self) -> None:
        """Take the step of every sibling with its static inputs, each on its own stream."""
        backend = self._backend
        caller_stream = backend.current_stream()
        for state, static, stream in zip(self._states, self._static_inputs, self._streams, strict=True):
            stream.wait_stream(caller_stream)
            with backend.on_stream(stream):
                take_step(state, static.inputs, Stopwatch())
        for stream in self._streams:
            caller_stream.wait_stream(stream)

    def _traces(
        self, step_function: Callable[[], None], inputs: Sequence[StepInputs], saved: Sequence[Sequence[Tensor]]
    ) -> list[Trace]:
        """Take a step from the saved states; return its traces, one per sibling."""
        _restore(self._states, saved)
        for state, static, own_inputs in zip(self._states, self._static_inputs, inputs, strict=True):
            _gradient(state).fill_(float("nan"))
            static.write(own_inputs)
        step_function()
        traces = []
        for state, before in zip(self._states, saved, strict=True):
            vector_before, loss_sum_before = before[0], before[-2]
            moved = state.network.vector - vector_before
            traces.append(Trace(_gradient(state).clone(), moved, state.loss_sum - loss_sum_before))
        return traces

    @contextmanager
    def _requirements_checked(self) -> Iterator[None]:
        """Raise if the block reads from the device or draws from its global generator: a graph can do neither."""
        generator_before = self._backend.generator_state()
        with self._backend.synchronization_forbidden():
            yield
        if not torch.equal(generator_before, self._backend.generator_state()):
            raise NotCapturable("the network draws from torch's global generator")


def _different(inputs: StepInputs, images: int) -> StepInputs:
    """Return inputs that differ in every field; `images` is the number of training images."""
    assert isinstance(inputs.augmentation, int)
    assert isinstance(inputs.noise, int)
    return replace(
        inputs,
        indices=(inputs.indices + 1) % images,
        augmentation=inputs.augmentation ^ 1,
        noise=inputs.noise ^ 1,
        rate=3 * inputs.rate,
        count=inputs.count + 5,
    )


def _gradient(state: TrainState) -> Tensor:
    assert state.network.gradient is not None
    return state.network.gradient


def _copies(state: TrainState) -> list[Tensor]:
    return [tensor.clone() for tensor in state.tensors()]


def _restore(states: Sequence[TrainState], saved: Sequence[Sequence[Tensor]]) -> None:
    for state, copies in zip(states, saved, strict=True):
        for tensor, value in zip(state.tensors(), copies, strict=True):
            tensor.copy_(value)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN measure which of its convolutions is the fastest for the shapes in use."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
