"""How the steps of several siblings are taken: eagerly one after another, or on a GPU as one CUDA graph. Knows no epochs.

Launching the kernels of a step one by one takes longer than running them; a graph is launched as a whole. In the graph every
sibling has a stream of its own, so that the small kernels of one sibling fill the gaps of the others. A captured step reads its
indices, keys and learning rate from tensors that are rewritten before each replay.

A graph never changes what a step computes. Before it is used, its replay is compared with the eager step, from the current
state and with two sets of inputs. If the results differ, the graph is discarded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.errors import DeviceBroken, is_out_of_memory, without_frames
from harness.kernels import uses_kernels
from harness.telemetry.stopwatch import Stopwatch
from harness.text import describe_error
from harness.training.compiler import WatchedForward, many_variants
from harness.training.graph_backend import Graph, GraphBackend, capture, forked, graph_backend, verify_after
from harness.training.static_inputs import StaticInputs, different_inputs
from harness.training.step import StepInputs, TakeSteps, TrainState, take_each
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
    about a minute. Networks of a shape that this process has compiled before are compiled for any number of steps, those that
    use the project's kernels never. `backend` returns what records graphs on a device, or None.

    On an H200 a graph of a ResNet20×4 has paid for itself after 75 steps. When compiling pays has not been measured.
    """

    capture_from: int = 100
    compile_from: int = 20_000
    backend: Callable[[torch.device], GraphBackend | None] = graph_backend


DEFAULT_POLICY = CapturePolicy()


def make_step_function(
    states: Sequence[TrainState],
    inputs: Sequence[StepInputs],
    steps: int,
    watch: Stopwatch,
    policy: CapturePolicy = DEFAULT_POLICY,
    take_steps: TakeSteps = take_each,
) -> tuple[StepFunction, Stepping]:
    """Return the fastest step function that works (compiled and captured, captured, or eager), and how it takes steps.

    `inputs` are those of the next step; `steps` is the number of steps ahead; `take_steps` computes a step of all siblings.
    Steps are eager on the CPU, and everywhere if HARNESS_EAGER is set in the environment. Raise the out-of-memory error if
    several siblings do not fit together, and `DeviceBroken` if a failed capture leaves a device that this process cannot use.
    """
    stepping = _eager_stepping(states)
    backend = policy.backend(states[0].device)
    if backend is None or steps < policy.capture_from or capture_is_off():
        return EagerStep(states, watch, take_steps), stepping
    reasons: list[str] = []
    shapes = {_shape(state, own) for state, own in zip(states, inputs, strict=True)}
    for manner in _attempts(states, steps, policy, compiled_before=shapes <= backend.compiled_shapes):
        try:
            step = CudaGraphStep(states, inputs, watch, backend, compiled=manner == "compiled", take_steps=take_steps)
        except DeviceBroken:
            raise
        except Exception as error:  # a compiler, a driver or a plugin's code may raise anything; the next attempt may work
            reasons.append(f"not {manner}: {describe_error(error)}")
            failure = without_frames(error)
        else:
            if manner == "compiled":
                backend.compiled_shapes |= shapes
            return step, replace(stepping, manner=manner, fallback="; ".join(reasons))
        verify_after(backend, reasons[-1])
        if is_out_of_memory(failure) and len(states) > 1:
            raise failure
    return EagerStep(states, watch, take_steps), replace(stepping, fallback="; ".join(reasons))


def _eager_stepping(states: Sequence[TrainState]) -> Stepping:
    state = states[0]
    return Stepping("eager", len(states), state.recipe.precision, uses_tf32(state.device))


def _attempts(states: Sequence[TrainState], steps: int, policy: CapturePolicy, *, compiled_before: bool) -> list[Manner]:
    """Return which captures to attempt, the best first."""
    # Buffers (running statistics) change in the vector that holds the parameters too; the compiler refuses that.
    compilable = not any(state.network.buffers or uses_kernels(state.network.module, state.device) for state in states)
    if compilable and (compiled_before or steps * len(states) >= policy.compile_from):
        return ["compiled", "captured"]
    return ["captured"]


def _shape(state: TrainState, inputs: StepInputs) -> tuple[Any, ...]:
    """Return what the compiler's choice of kernels depends on: networks, batch, images, precision."""
    names = []
    for network in (state.network, state.teacher):
        if network is not None:
            names.append((type(network.module).__qualname__, *((slot.name, tuple(slot.shape)) for slot in network.slots)))
    images = state.augmenter.images
    return (*names, len(inputs.indices), images.channels, images.height, images.width, state.recipe.precision)


def capture_is_off() -> bool:
    """Return whether HARNESS_EAGER is set, which helps if a driver or a network fails with graphs."""
    return bool(os.environ.get("HARNESS_EAGER"))


class EagerStep:
    """Takes the steps of one sibling after another, operation by operation."""

    def __init__(self, states: Sequence[TrainState], watch: Stopwatch, take_steps: TakeSteps = take_each) -> None:
        self._states = states
        self._watch = watch
        self._take_steps = take_steps
        self._epoch_keys: list[int | Tensor | None] = [None] * len(states)

    def __call__(self, inputs: Sequence[StepInputs]) -> None:
        for index, (state, own_inputs) in enumerate(zip(self._states, inputs, strict=True)):
            if own_inputs.augmentation != self._epoch_keys[index]:
                self._epoch_keys[index] = own_inputs.augmentation
                state.draws.forget()  # a network may begin to draw in a later epoch

        def for_each(work: Callable[[int], None]) -> None:
            for index, (state, own_inputs) in enumerate(zip(self._states, inputs, strict=True)):
                assert isinstance(own_inputs.noise, int)
                with streams.reseeded(own_inputs.noise, state.device):  # for draws without a replacement
                    work(index)

        self._take_steps(self._states, inputs, for_each, self._watch)


class CudaGraphStep:
    """Takes the steps of all siblings by replaying one graph.

    Raise `NotCapturable` if that is impossible; the backend, the network and the compiler may raise other errors. The states
    are left as they were; if that fails, raise `DeviceBroken`.
    """

    def __init__(
        self,
        states: Sequence[TrainState],
        inputs: Sequence[StepInputs],
        watch: Stopwatch,
        backend: GraphBackend,
        *,
        compiled: bool = False,
        take_steps: TakeSteps = take_each,
    ) -> None:
        self._states = states
        self._take = take_steps
        self._watch = watch
        self._backend = backend
        with watch("device"), backend.selected(), _fastest_convolutions():
            saved = [_copies(state) for state in states]
            with _state_restored(states, saved):
                self._static_inputs = [StaticInputs(own, state.device) for own, state in zip(inputs, states, strict=True)]
                self._streams = [backend.new_stream() for _ in states]
                self._graph = self._capture(inputs, saved, compiled)

    def __call__(self, inputs: Sequence[StepInputs]) -> None:
        with self._watch("device"), self._backend.selected():
            for static, own_inputs in zip(self._static_inputs, inputs, strict=True):
                static.write(own_inputs)
            self._graph.replay()

    def _capture(self, inputs: Sequence[StepInputs], saved: Sequence[Sequence[Tensor]], compiled: bool) -> Graph:
        """Take the step eagerly, capture it, and compare the replay with the eager step."""
        other_inputs = [different_inputs(own, len(state.labels)) for own, state in zip(inputs, self._states, strict=True)]
        expected = self._traces(self._take_steps, inputs, saved)
        with self._requirements_checked():
            expected_of_others = self._traces(self._take_steps, other_inputs, saved)
        with self._compiled_forwards() if compiled else nullcontext():
            for _ in range(_WARM_UP_STEPS):
                self._take_steps()
            if any(state.network.buffers_replaced for state in self._states):
                raise NotCapturable(
                    "the network replaces a buffer by a new tensor in its forward pass; a graph would not see it"
                )
            graph = capture(self._backend, self._take_steps)
        compare(self._traces(graph.replay, inputs, saved), expected)
        compare(self._traces(graph.replay, other_inputs, saved), expected_of_others)
        return graph

    @contextmanager
    def _compiled_forwards(self) -> Iterator[None]:
        """Use compiled forward passes of students and teachers within the block; raise if one was not compiled after all."""
        if any(state.draws.found for state in self._states):
            raise NotCapturable("the network draws random numbers other than nn.Dropout's, which the compiler cannot name")
        forwards = []
        for state in self._states:
            state.forward = WatchedForward(state.network.module, self._backend.compile)
            forwards.append(state.forward)
            if state.teacher is not None:
                state.teacher_forward = WatchedForward(state.teacher.module, self._backend.compile)
                forwards.append(state.teacher_forward)
        with many_variants():
            yield
        for forward in forwards:
            forward.check()

    def _take_steps(self) -> None:
        """Take the step of every sibling with its static inputs, each on its own stream."""
        self._take(self._states, [static.inputs for static in self._static_inputs], self._on_own_streams, Stopwatch())

    def _on_own_streams(self, work: Callable[[int], None]) -> None:
        """Do something for every sibling on its stream. The streams wait for what was queued before, and are waited for."""
        with forked(self._backend, self._streams):
            for index, stream in enumerate(self._streams):
                with self._backend.on_stream(stream):
                    work(index)

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
        """Raise if the block reads from the device or draws from a generator of torch: a graph can do neither."""
        generator_before = self._backend.generator_state()
        with self._backend.synchronization_forbidden():
            yield
        unnamed = set[str]().union(*(state.draws.unnamed for state in self._states))
        if unnamed:
            raise NotCapturable(f"the network draws from a generator with {', '.join(sorted(unnamed))}")
        if not torch.equal(generator_before, self._backend.generator_state()):
            raise NotCapturable("the network draws from torch's global generator")


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
def _state_restored(states: Sequence[TrainState], saved: Sequence[Sequence[Tensor]]) -> Iterator[None]:
    """Restore the states after the block, and their plain forward passes. Raise `DeviceBroken` if that fails."""
    try:
        yield
    finally:
        for state in states:
            state.use_plain_forwards()
        try:
            _restore(states, saved)
        except Exception as error:
            raise DeviceBroken(
                f"{states[0].device}: the state of a training cannot be restored: {describe_error(error)}"
            ) from None


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN measure which of its convolutions is the fastest for the shapes in use."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
