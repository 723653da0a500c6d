"""How the steps of a group are taken: eagerly one after another, or on a GPU as one CUDA graph. Knows nothing of epochs.

Launching the kernels of a step one by one takes longer than running them; a graph is launched whole. In it every sibling has a
stream of its own, so that the small kernels of one fill the gaps of the others. A captured step reads its indices, keys and
rate from tensors that are rewritten before each replay.

Nothing here can change what a step computes: before it is used, a graph is replayed beside the eager step, on the state at hand
and with other inputs, and given up with a warning if it does anything else.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness import streams
from harness.errors import is_out_of_memory
from harness.telemetry.stopwatch import Stopwatch
from harness.training.step import StepInputs, TrainState, take_step

StepFunction = Callable[[Sequence[StepInputs]], None]
"""Takes one step of every sibling, each as it is told."""

CAPTURE_FROM = 300
"""Steps ahead from which a graph pays: trying it takes some ten steps and a second [predicted, not measured]."""

COMPILE_FROM = 20_000
"""Steps ahead, of all siblings, from which fused kernels pay: compiling takes about a minute [predicted, not measured]."""

_TOLERANCE = 0.3  # of a norm; fused kernels round bfloat16 differently by up to 0.05, a graph that does something else by 1


class NotCapturable(Exception):
    """A step that cannot be a graph, or whose graph does something else."""


def make_step_function(
    trainees: Sequence[TrainState], moments: Sequence[StepInputs], steps: int, watch: Stopwatch
) -> StepFunction:
    """Return the fastest way to take steps that can be had: compiled in a graph, in a graph, or eager.

    `moments` are those of the next step, of which `steps` are ahead. With HARNESS_EAGER in the environment it is eager. Raise
    what tells of a want of memory if siblings do not fit together.
    """
    for compiled in _ways(trainees, steps):
        try:
            return CudaGraphStep(trainees, moments, watch, compiled=compiled)
        except Exception as error:  # whatever a compiler, a driver or a plugin's code has against it, there is another way
            if is_out_of_memory(error):
                if len(trainees) > 1:
                    raise
                continue
            manner = "compiled and captured" if compiled else "captured"
            warnings.warn(f"steps are not {manner}: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
    return EagerStep(trainees, watch)


def _ways(trainees: Sequence[TrainState], steps: int) -> list[bool]:
    """Return the ways of capturing that may pay, the best first: compiled or not. None on the CPU."""
    if trainees[0].device.type != "cuda" or steps < CAPTURE_FROM or capture_is_off():
        return []
    # Buffers (running statistics) change in the vector that holds the parameters too; the compiler refuses that.
    compilable = not any(trainee.network.buffers for trainee in trainees)
    return [True, False] if compilable and steps * len(trainees) >= COMPILE_FROM else [False]


def capture_is_off() -> bool:
    """Say whether HARNESS_EAGER is in the environment: for a driver or a network with which graphs go wrong."""
    return bool(os.environ.get("HARNESS_EAGER"))


class EagerStep:
    """Takes the steps one sibling after another, operation by operation."""

    def __init__(self, trainees: Sequence[TrainState], watch: Stopwatch) -> None:
        self._trainees, self._watch = trainees, watch

    def __call__(self, moments: Sequence[StepInputs]) -> None:
        for trainee, moment in zip(self._trainees, moments, strict=True):
            assert isinstance(moment.noise, int)
            with streams.reseeded(moment.noise, trainee.device):  # for dropped paths and functional dropout
                take_step(trainee, moment, self._watch)


class CudaGraphStep:
    """Takes the steps of all siblings by replaying one CUDA graph."""

    def __init__(
        self, trainees: Sequence[TrainState], moments: Sequence[StepInputs], watch: Stopwatch, *, compiled: bool = False
    ) -> None:
        self._trainees, self._watch, self._device = trainees, watch, trainees[0].device
        with watch("device"), torch.cuda.device(self._device), _fastest_convolutions():
            self._slates = [StaticInputs(moment, self._device) for moment in moments]
            self._streams = [torch.cuda.Stream(self._device) for _ in trainees]
            saved = [[tensor.clone() for tensor in trainee.state()] for trainee in trainees]
            try:
                self._graph = self._capture(moments, saved, compiled)
            finally:
                _restore(trainees, saved)
                for trainee in trainees:
                    trainee.forward = trainee.network.module

    def __call__(self, moments: Sequence[StepInputs]) -> None:
        with self._watch("device"), torch.cuda.device(self._device):
            for slate, moment in zip(self._slates, moments, strict=True):
                slate.write(moment)
            self._graph.replay()

    def _capture(
        self, moments: Sequence[StepInputs], saved: Sequence[Sequence[Tensor]], compiled: bool
    ) -> torch.cuda.CUDAGraph:
        """Take the step eagerly, capture it, and compare."""
        strange = [_otherwise(trainee, moment) for trainee, moment in zip(self._trainees, moments, strict=True)]
        expected = [self._traces(self._branch, moments, saved)]
        with self._without_reading():
            expected.append(self._traces(self._branch, strange, saved))
        if compiled:
            for trainee in self._trainees:
                trainee.forward = torch.compile(trainee.network.module, dynamic=False)
        for _ in range(3):  # libraries choose kernels, allocate and compile on the first calls
            self._branch()
        if any(trainee.network.buffers_replaced for trainee in self._trainees):
            raise NotCapturable("the network replaces a buffer by a new tensor in its forward pass; a graph would not see it")
        graph = torch.cuda.CUDAGraph()
        with _capturing(graph, self._device):
            self._branch()
        for told, wanted in zip((moments, strange), expected, strict=True):
            for found, right in zip(self._traces(graph.replay, told, saved), wanted, strict=True):
                found.check(right)
        return graph

    def _branch(self) -> None:
        """Take the step of every sibling, each on its stream, as the slates say."""
        here = torch.cuda.current_stream()
        for trainee, slate, stream in zip(self._trainees, self._slates, self._streams, strict=True):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                take_step(trainee, slate.moment, Stopwatch())
        for stream in self._streams:
            here.wait_stream(stream)

    def _traces(
        self, step_function: Callable[[], None], moments: Sequence[StepInputs], saved: Sequence[Sequence[Tensor]]
    ) -> list[Trace]:
        """Take a step from the saved state; return what it left behind."""
        _restore(self._trainees, saved)
        for trainee, slate, moment in zip(self._trainees, self._slates, moments, strict=True):
            _gradient(trainee).fill_(float("nan"))
            slate.write(moment)
        step_function()
        return [
            Trace(_gradient(trainee).clone(), trainee.network.vector - before[0], trainee.loss_sum - before[-2])
            for trainee, before in zip(self._trainees, saved, strict=True)
        ]

    @contextmanager
    def _without_reading(self) -> Iterator[None]:
        """Raise if the block reads from the device, or draws from its global generator: a graph can do neither."""
        generator, mode = torch.cuda.get_rng_state(self._device), torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls the mode a prototype
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        if not torch.equal(generator, torch.cuda.get_rng_state(self._device)):
            raise NotCapturable("the network draws from torch's global generator")


class StaticInputs:
    """Where a captured step finds what it is told: tensors that stay in place and are rewritten."""

    def __init__(self, moment: StepInputs, device: torch.device) -> None:
        self._indices = moment.indices.clone()
        self._keys = torch.zeros(2, dtype=torch.int64, device=device)
        self._numbers = torch.zeros(2, dtype=torch.float64, device=device)
        self.moment = StepInputs(self._indices, *self._keys.unbind(), *self._numbers.unbind())
        self.write(moment)

    def write(self, moment: StepInputs) -> None:
        """Take over a moment whose values are numbers."""
        assert isinstance(moment.augmentation, int)
        assert isinstance(moment.noise, int)
        self._indices.copy_(moment.indices)
        self._keys[0].fill_(streams.signed(moment.augmentation))
        self._keys[1].fill_(streams.signed(moment.noise))
        self._numbers[0].fill_(float(moment.rate))
        self._numbers[1].fill_(float(moment.count))


@dataclass(frozen=True)
class Trace:
    """What a step left behind: the gradient as the optimizer last saw it, how far the weights moved, the loss."""

    gradient: Tensor
    moved: Tensor
    loss: Tensor

    def check(self, right: Trace) -> None:
        """Raise `NotCapturable` unless it is, to rounding, what the eager step left.

        Weights are compared by how far they moved: where a gradient is all rounding, Adam's step is as long, but anywhere.
        """
        off = _norm(self.gradient - right.gradient) / max(_norm(right.gradient), 1e-30)
        stretch = _norm(self.moved) / max(_norm(right.moved), 1e-30) if _norm(right.moved) else 1.0
        loss = abs(float(self.loss) - float(right.loss)) / max(abs(float(right.loss)), 1e-3)
        if not (off < _TOLERANCE and abs(stretch - 1) < _TOLERANCE and loss < _TOLERANCE):
            raise NotCapturable(
                f"its replay is not the step: the gradient is off by {off:.2g} of its norm, the loss by {loss:.2g}, "
                f"the weights moved {stretch:.2g} times as far"
            )


def _otherwise(trainee: TrainState, moment: StepInputs) -> StepInputs:
    """Return a moment in which everything is different."""
    assert isinstance(moment.augmentation, int)
    assert isinstance(moment.noise, int)
    return replace(
        moment,
        indices=(moment.indices + 1) % len(trainee.labels),
        augmentation=moment.augmentation ^ 1,
        noise=moment.noise ^ 1,
        rate=3 * moment.rate,
        count=moment.count + 5,
    )


def _gradient(trainee: TrainState) -> Tensor:
    assert trainee.network.gradient is not None
    return trainee.network.gradient


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _restore(trainees: Sequence[TrainState], saved: Sequence[Sequence[Tensor]]) -> None:
    for trainee, before in zip(trainees, saved, strict=True):
        for tensor, value in zip(trainee.state(), before, strict=True):
            tensor.copy_(value)


@contextmanager
def _capturing(graph: torch.cuda.CUDAGraph, device: torch.device) -> Iterator[None]:
    """Capture what the block does, on a stream of its own.

    Where the block fails, the end of its capture fails, too: torch then tells of that instead, and leaves its stream current.
    """
    here, cause = torch.cuda.current_stream(device), None
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
            try:
                yield
            except BaseException as error:
                cause = error
                raise
    except BaseException as error:
        torch.cuda.set_stream(here)
        raise cause or error from None


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try its convolutions on the shapes at hand."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
