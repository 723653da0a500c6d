"""Capture: its logic on the CPU with a stand-in for CUDA's graphs, and the real thing where there is a device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from harness import Recipe
from harness.telemetry.stopwatch import Stopwatch
from harness.training import cuda_graph
from harness.training.cuda_graph import CudaGraphStep, EagerStep, NotCapturable, StaticInputs, Trace, make_step_function
from harness.training.loop import Point, Trainer, train_together
from harness.training.step import StepInputs
from siblings import Family, same

CPU = torch.device("cpu")
gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Graph:
    """Stands in for a CUDA graph: its replay does again what was done while it was captured."""

    done: Any = None

    def replay(self) -> None:
        self.done()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put plain stand-ins in the place of CUDA's streams and graphs."""

    @contextlib.contextmanager
    def nothing(*_: Any) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def graph(graph: Graph, stream: Stream) -> Iterator[None]:
        branch = CudaGraphStep._branch
        monkeypatch.setattr(CudaGraphStep, "_branch", lambda self: (setattr(graph, "done", lambda: branch(self)), branch(self)))
        yield
        monkeypatch.setattr(CudaGraphStep, "_branch", branch)

    class Stream:
        def __init__(self, device: torch.device | None = None) -> None:
            pass

        def wait_stream(self, other: Stream) -> None:
            pass

    for name, value in {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": nothing,
        "set_stream": lambda stream: None,
        "device": nothing,
        "graph": graph,
        "CUDAGraph": Graph,
        "get_rng_state": lambda device: torch.get_rng_state(),
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def started(family: Family, members: int = 2) -> list[Trainer]:
    """Return siblings at their start."""
    pairs = [family.sibling(j) for j in range(members)]
    for trainer, start in pairs:
        trainer.load(start)
    return [trainer for trainer, _ in pairs]


def captured(trainers: Sequence[Trainer], **options: Any) -> CudaGraphStep:
    """Capture siblings' steps."""
    return CudaGraphStep([t.trainee for t in trainers], [t.moment() for t in trainers], Stopwatch(), **options)


def walk(trainers: Sequence[Trainer], step_function: cuda_graph.StepFunction, steps: int) -> torch.Tensor:
    """Take some steps; return how far each sibling moved, (members, parameters + buffers)."""
    before = torch.stack([t.network.vector.clone() for t in trainers])
    for _ in range(steps):
        step_function([t.moment() for t in trainers])
        for trainer in trainers:
            trainer.count_step()
    return torch.stack([t.network.vector for t in trainers]) - before


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", ["perceptron", "resnet20", "vit"])
def test_capturing_leaves_the_state_as_it_was(kind: str) -> None:
    """After warm-up, capture and comparison, weights, memory, counters and sums are what they were, to the bit."""
    options = {"batchnorm": True} if kind == "perceptron" else {}
    trainers = started(Family(kind, Recipe(batch_size=48, optimizer="adam"), **options))
    before = [[tensor.clone() for tensor in t.trainee.state()] for t in trainers]
    captured(trainers)
    for trainer, saved in zip(trainers, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(trainer.trainee.state(), saved, strict=True))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_replays_are_the_eager_steps(optimizer: str) -> None:
    """Replays that are told each step's moment move siblings as eager steps do, over the end of an epoch."""
    family = Family("resnet20", Recipe(batch_size=48, optimizer=optimizer, learning_rate=0.01), distilled=True)
    ours, theirs = started(family), started(family)
    moved = walk(ours, captured(ours), 6)
    wanted = walk(theirs, EagerStep([t.trainee for t in theirs], Stopwatch()), 6)
    assert float((moved - wanted).norm() / wanted.norm()) < 1e-2


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", ["resnet20", "vit"])
def test_compiled_step_is_the_eager_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by the compiler, with dropout as it is, a group takes the eager steps; siblings share what was compiled."""
    traced = []
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting(traced)))
    family = Family(kind, Recipe(batch_size=48, optimizer="adam", learning_rate=0.001))
    ours, theirs = started(family), started(family)
    moved = walk(ours, captured(ours, compiled=True), 3)
    wanted = walk(theirs, EagerStep([t.trainee for t in theirs], Stopwatch()), 3)
    assert float((moved - wanted).norm() / wanted.norm()) < 1e-2
    assert len(traced) == 1


def counting(traced: list[Any]) -> Callable[..., Any]:
    """Return a compiler that only traces, and notes what."""
    from torch._dynamo.backends.debugging import aot_eager

    return lambda graph, inputs: (traced.append(graph), aot_eager(graph, inputs))[1]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("forgotten", ["indices", "augmentation", "rate", "all"])
def test_graph_that_does_something_else_is_given_up(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that does not read what it is told, but goes by what was known at capture, is not used."""
    family = Family("resnet20", Recipe(batch_size=16, augmentation={"crop_padding": 8, "brightness": 1.0}, weight_decay=0.0))
    trainers = started(family, 1)
    write = StaticInputs.write

    def forget(self: StaticInputs, moment: StepInputs) -> None:
        before = (self._indices.clone(), self._keys.clone(), self._numbers.clone())
        write(self, moment)
        if forgotten in ("indices", "all"):
            self._indices.copy_(before[0])
        if forgotten in ("augmentation", "all"):
            self._keys.copy_(before[1])
        if forgotten in ("rate", "all"):
            self._numbers.copy_(before[2])

    replay = Graph.replay

    def replay_forgetting(self: Graph) -> None:
        monkeypatch.setattr(StaticInputs, "write", forget)
        replay(self)

    monkeypatch.setattr(Graph, "replay", replay_forgetting)
    saved = [tensor.clone() for tensor in trainers[0].trainee.state()]
    with pytest.raises(NotCapturable, match="its replay is not the step: the gradient is off by"):
        captured(trainers)
    assert all(torch.equal(a, b) for a, b in zip(trainers[0].trainee.state(), saved, strict=True))


@pytest.mark.usefixtures("stand_in")
def test_network_that_draws_from_the_global_generator_is_not_captured() -> None:
    """Its draws would not be functions of the step, so that it stays eager."""

    class Drop(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(x, 0.1, self.training)

    trainers = started(Family("perceptron", Recipe(batch_size=16)), 1)
    trainers[0].network.module.append(Drop())
    with pytest.raises(NotCapturable, match="draws from torch's global generator"):
        captured(trainers)


def test_trace_says_what_is_off() -> None:
    """The message has the three numbers; not-a-number is off, too; equal traces pass."""
    ones = Trace(torch.ones(4), torch.ones(4), torch.tensor(2.0))
    ones.check(ones)
    with pytest.raises(NotCapturable, match="off by 1 of its norm, the loss by 0, the weights moved 1 times as far"):
        Trace(torch.zeros(4), torch.ones(4), torch.tensor(2.0)).check(ones)
    with pytest.raises(NotCapturable, match="the weights moved 3 times as far"):
        Trace(torch.ones(4), 3 * torch.ones(4), torch.tensor(2.0)).check(ones)
    with pytest.raises(NotCapturable, match="off by nan"):
        Trace(torch.full((4,), torch.nan), torch.ones(4), torch.tensor(2.0)).check(ones)


def test_on_the_cpu_steps_are_eager() -> None:
    """There is nothing to capture, however many steps are ahead."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)))
    assert isinstance(
        make_step_function([t.trainee for t in trainers], [t.moment() for t in trainers], 10**6, Stopwatch()), EagerStep
    )


@pytest.mark.parametrize("members", [1, 2])
def test_what_cannot_be_captured_is_taken_eagerly(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way is tried and its failure told; want of memory is passed on, but by one alone who has another way left."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)), members)
    error: list[Exception] = [RuntimeError("no graphs today")]

    def refuse(*_: Any, **__: Any) -> None:
        raise error[0]

    monkeypatch.setattr(cuda_graph, "_ways", lambda trainees, steps: [True, False])
    monkeypatch.setattr(cuda_graph, "CudaGraphStep", refuse)

    def make() -> cuda_graph.StepFunction:
        return make_step_function([t.trainee for t in trainers], [t.moment() for t in trainers], 10**6, Stopwatch())

    with (
        pytest.warns(RuntimeWarning, match="steps are not compiled and captured: RuntimeError: no graphs today"),
        pytest.warns(RuntimeWarning, match="steps are not captured: RuntimeError: no graphs today"),
    ):
        assert isinstance(make(), EagerStep)
    for error[0] in (torch.OutOfMemoryError("full"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")):
        if members == 1:
            assert isinstance(make(), EagerStep)
        else:
            with pytest.raises(type(error[0])):
                make()


@pytest.mark.usefixtures("stand_in")
def test_capture_that_fails_tells_why_and_leaves_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch ends a capture that has failed with another error, and its stream stays current."""
    current = ["the caller's"]

    @contextlib.contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        current[0] = "the capture's"
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def branch(_: CudaGraphStep) -> None:
        if current[0] == "the capture's":
            raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    monkeypatch.setattr(CudaGraphStep, "_branch", branch)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        captured(started(Family("perceptron", Recipe(batch_size=16))))
    assert current == ["the caller's"]


# -- on a device


GPU_CASES = [
    ("perceptron", "fp32", "sgd", {"dropout": 0.3}),
    ("resnet20", "fp32", "sgd", {}),
    ("resnet20", "bf16", "sgd", {}),
    ("vit", "fp32", "adam", {}),
    ("vit", "bf16", "adamw", {}),
]


def family_on_device(kind: str, precision: str, optimizer: str, distilled: bool, options: dict[str, Any]) -> Family:
    """Return siblings on the device, whose steps take some epochs."""
    recipe = Recipe(
        epochs=4, batch_size=48, optimizer=optimizer, precision=precision, learning_rate=0.02 if optimizer == "sgd" else 1e-3
    )
    return Family(kind, recipe, "cuda", distilled=distilled, **options)


def ends(family: Family, members: int, together: bool) -> list[Point]:
    """Train siblings to the end, together or each alone."""
    pairs = [family.sibling(j) for j in range(members)]
    if not together:
        return [trainer.run(start, family.recipe.epochs) for trainer, start in pairs]
    found = train_together([t for t, _ in pairs], [s for _, s in pairs], family.recipe.epochs)
    assert all(isinstance(end, Point) for end in found)
    return [end for end in found if isinstance(end, Point)]


def apart(family: Family, left: Sequence[Point], right: Sequence[Point]) -> float:
    """Return how far two outcomes lie apart, as a share of the way that was trained."""
    gaps, ways = 0.0, 0.0
    for j, (one, two) in enumerate(zip(left, right, strict=True)):
        start = family.sibling(j)[1].weights
        gaps += sum(float((one.weights[n] - two.weights[n]).float().square().sum()) for n in start)
        ways += sum(float((two.weights[n] - start[n]).float().square().sum()) for n in start)
    return (gaps / ways) ** 0.5


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture from the first step on, and let nothing but the device round: float32 is float32."""
    monkeypatch.setattr(cuda_graph, "CAPTURE_FROM", 0)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@gpu
@needs_cuda
@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize(("kind", "precision", "optimizer", "options"), GPU_CASES)
def test_captured_is_eager(
    kind: str, precision: str, optimizer: str, options: dict[str, Any], distilled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four epochs of replays end where four epochs of eager steps do, but for rounding that grows on the way."""
    family = family_on_device(kind, precision, optimizer, distilled, options)
    ours = ends(family, 1, together=False)
    monkeypatch.setenv("HARNESS_EAGER", "1")
    theirs = ends(family, 1, together=False)
    assert apart(family, ours, theirs) < (0.02 if precision == "fp32" else 0.15)
    assert ours[0].history[0].loss == pytest.approx(theirs[0].history[0].loss, rel=1e-3 if precision == "fp32" else 1e-2)


@gpu
@needs_cuda
@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize(("kind", "precision", "optimizer", "options"), GPU_CASES)
def test_grouped_is_alone(kind: str, precision: str, optimizer: str, options: dict[str, Any], distilled: bool) -> None:
    """Five siblings as branches of one graph end where each ends in a graph of its own."""
    family = family_on_device(kind, precision, optimizer, distilled, options)
    assert apart(family, ends(family, 5, together=True), ends(family, 5, together=False)) < (
        0.02 if precision == "fp32" else 0.15
    )


@gpu
@needs_cuda
@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("kind", ["resnet20", "vit"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_is_eager(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled siblings in one graph end where eager steps do; had compiling failed, there would be a RuntimeWarning."""
    family = family_on_device(kind, "fp32", "sgd", False, {})
    monkeypatch.setattr(cuda_graph, "COMPILE_FROM", 0)
    ours = ends(family, 2, together=True)
    monkeypatch.setenv("HARNESS_EAGER", "1")
    assert apart(family, ours, ends(family, 2, together=False)) < 0.02


@gpu
@needs_cuda
def test_device_and_cpu_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch on the device, dropout and augmentation included, is one epoch on the CPU to rounding."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = Recipe(epochs=1, batch_size=48, learning_rate=0.01)
    there, here = (Family("vit", recipe, device) for device in ("cuda", "cpu"))
    assert apart(here, ends(there, 2, together=False), ends(here, 2, together=False)) < 0.02


@gpu
@needs_cuda
@pytest.mark.usefixtures("tight")
def test_group_goes_on_from_its_members_states() -> None:
    """A captured group that was stopped goes on, captured anew, to where an undisturbed one ends."""
    family = family_on_device("resnet20", "fp32", "sgd", False, {})
    pairs = [family.sibling(j) for j in range(3)]
    looks = iter(range(100))
    halves = train_together([t for t, _ in pairs], [s for _, s in pairs], 4, stopping=lambda: next(looks) >= 6)
    rest = train_together([family.sibling(j)[0] for j in range(3)], halves, 4)
    assert apart(family, rest, ends(family, 3, together=True)) < 0.02
    assert not same(rest[0], rest[1])


@gpu
@needs_cuda
def test_fifth_sibling_that_does_not_fit_is_told() -> None:
    """Want of memory while capturing a group is passed on, so that it can be halved."""
    family = Family("resnet20", Recipe(epochs=400, batch_size=96), "cuda", channels=64)
    taken = []
    free, _ = torch.cuda.mem_get_info()
    taken.append(torch.empty(max(0, free - 600 * 2**20), dtype=torch.uint8, device="cuda"))
    with pytest.raises(torch.OutOfMemoryError):
        ends(family, 5, together=True)


@gpu
@needs_cuda
def test_capture_that_fails_on_a_device_leaves_it_usable() -> None:
    """What failed is raised, the stream is the caller's, and another capture goes well."""
    device, here, numbers = torch.device("cuda", 0), torch.cuda.current_stream(), torch.zeros(3, device="cuda")

    def add_one(graph: torch.cuda.CUDAGraph, error: Exception | None) -> None:
        with cuda_graph._capturing(graph, device):
            numbers.add_(1)
            if error is not None:
                raise error

    with pytest.raises(torch.OutOfMemoryError, match="full"):
        add_one(torch.cuda.CUDAGraph(), torch.OutOfMemoryError("full"))
    assert torch.cuda.current_stream() == here
    graph = torch.cuda.CUDAGraph()
    add_one(graph, None)
    graph.replay()
    assert numbers.tolist() == [1, 1, 1]
