"""Captured, compiled and grouped steps on a CUDA device against eager ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from harness import Recipe, kernels
from harness.training.cuda_graph import DEFAULT_POLICY, CapturePolicy
from harness.training.graph_backend import CudaGraphs, capture, forked, verify_after
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.stepping import Stepping
from siblings import Family, same
from training.drawing_layers import DRAWING_LAYERS, sibling_with

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

ALWAYS_CAPTURED = CapturePolicy(capture_from=0)
ALWAYS_COMPILED = CapturePolicy(capture_from=0, compile_from=0)

CASES = [
    ("perceptron", "fp32", "sgd", {"dropout": 0.3}),
    ("resnet20", "fp32", "sgd", {}),
    ("resnet20", "bf16", "sgd", {}),
    ("vit", "fp32", "adam", {}),
    ("vit", "bf16", "adamw", {}),
]

MAX_DISTANCE = {"fp32": 0.15, "bf16": 0.3}
"""How far outcomes may be apart by rounding that grows over four epochs, as a share of the way that was trained.

On an H200, cuDNN's fastest convolutions ended 0.08 apart in float32 and 0.15 in bfloat16. Of a perturbation of 1e-5 of the
weights, 0.016 is left in float32 on the CPU. Another sibling's batch or noise gives about 1.
"""


def family_on_device(kind: str, precision: str, optimizer: str, distilled: bool, options: dict[str, Any]) -> Family:
    """Return siblings on the device that train for four epochs."""
    rate = 0.02 if optimizer == "sgd" else 1e-3
    recipe = Recipe(epochs=4, batch_size=48, optimizer=optimizer, precision=precision, learning_rate=rate)
    return Family(kind, recipe, "cuda", distilled=distilled, **options)


def ends(family: Family, members: int, *, together: bool, policy: CapturePolicy = ALWAYS_CAPTURED) -> list[Point]:
    """Train siblings to the end, together or each alone."""
    pairs = [family.sibling(member) for member in range(members)]
    groups = [pairs] if together else [[pair] for pair in pairs]
    found = []
    for group in groups:
        trainers, starts = zip(*group, strict=True)
        found += train_together(trainers, starts, family.recipe.epochs, capture_policy=policy)
    assert all(isinstance(end, Point) for end in found)
    return found


def distance(family: Family, left: Sequence[Point], right: Sequence[Point]) -> float:
    """Return how far two outcomes are apart, as a share of the way that was trained."""
    apart, trained = 0.0, 0.0
    for member, (one, other) in enumerate(zip(left, right, strict=True)):
        start = family.sibling(member)[1].weights
        for name in start:
            apart += float((one.weights[name] - other.weights[name]).float().square().sum())
            trained += float((other.weights[name] - start[name]).float().square().sum())
    return (apart / trained) ** 0.5


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device compute float32 in float32."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize(("kind", "precision", "optimizer", "options"), CASES)
def test_captured_equals_eager(
    kind: str, precision: str, optimizer: str, options: dict[str, Any], distilled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four epochs of replays end where four epochs of eager steps do, but for rounding."""
    family = family_on_device(kind, precision, optimizer, distilled, options)
    captured = ends(family, 1, together=False)
    monkeypatch.setenv("HARNESS_EAGER", "1")
    eager = ends(family, 1, together=False)
    assert distance(family, captured, eager) < MAX_DISTANCE[precision]
    tolerance = 1e-3 if precision == "fp32" else 1e-2
    assert captured[0].history[0].loss == pytest.approx(eager[0].history[0].loss, rel=tolerance)


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize(("kind", "precision", "optimizer", "options"), CASES)
def test_grouped_equals_alone(kind: str, precision: str, optimizer: str, options: dict[str, Any], distilled: bool) -> None:
    """Five siblings as branches of one graph end where each ends in a graph of its own."""
    family = family_on_device(kind, precision, optimizer, distilled, options)
    grouped = ends(family, 5, together=True)
    assert distance(family, grouped, ends(family, 5, together=False)) < MAX_DISTANCE[precision]


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("kind", ["resnet20", "vit"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_equals_eager(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled siblings in one graph end where eager steps do; had compiling failed, there would be a RuntimeWarning."""
    family = family_on_device(kind, "fp32", "sgd", False, {})
    with kernels.enabled(False):
        compiled = ends(family, 2, together=True, policy=ALWAYS_COMPILED)
    monkeypatch.setenv("HARNESS_EAGER", "1")
    assert distance(family, compiled, ends(family, 2, together=False)) < MAX_DISTANCE["fp32"]


def test_device_equals_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch on the device, dropout and augmentation included, is one epoch on the CPU to rounding."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = Recipe(epochs=1, batch_size=48, learning_rate=0.01)
    on_device, on_cpu = Family("vit", recipe, "cuda"), Family("vit", recipe, "cpu")
    device_ends = ends(on_device, 2, together=False, policy=DEFAULT_POLICY)
    assert distance(on_cpu, device_ends, ends(on_cpu, 2, together=False)) < 0.02


@pytest.mark.usefixtures("no_tf32")
def test_stopped_group_continues() -> None:
    """A captured group that was stopped is captured again and ends where an uninterrupted one ends."""
    family = family_on_device("resnet20", "fp32", "sgd", False, {})
    trainers, starts = zip(*map(family.sibling, range(3)), strict=True)
    checks = iter(range(100))
    stopped = train_together(trainers, starts, 4, stopping=lambda: next(checks) >= 6, capture_policy=ALWAYS_CAPTURED)
    trainers, _ = zip(*map(family.sibling, range(3)), strict=True)
    continued = train_together(trainers, stopped, 4, capture_policy=ALWAYS_CAPTURED)
    assert distance(family, continued, ends(family, 3, together=True)) < MAX_DISTANCE["fp32"]
    assert not same(continued[0], continued[1])


def test_group_that_does_not_fit_raises_out_of_memory() -> None:
    """The error of a group's capture is raised, so that the caller can halve the group."""
    family = Family("resnet20", Recipe(epochs=400, batch_size=96), "cuda", channels=64)
    free, _ = torch.cuda.mem_get_info()
    filling = torch.empty(max(0, free - 600 * 2**20), dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError):
        ends(family, 5, together=True, policy=DEFAULT_POLICY)
    del filling


def run_out_of_memory(graphs: CudaGraphs) -> None:
    """Allocate on two forked streams, and run out of memory on the second."""
    streams = [graphs.new_stream(), graphs.new_stream()]
    kept = []
    with forked(graphs, streams):
        for index, stream in enumerate(streams):
            with graphs.on_stream(stream):
                kept.append(torch.empty(64 * 2**20, device="cuda").fill_(1))
                if index:
                    raise torch.OutOfMemoryError("full")


def leave_a_stream_unjoined(graphs: CudaGraphs) -> None:
    """Fork a stream and never join it: the capture cannot be ended."""
    stream = graphs.new_stream()
    stream.wait_stream(graphs.current_stream())
    with graphs.on_stream(stream):
        torch.empty(64 * 2**20, device="cuda").fill_(1)


def wait_for_the_device(graphs: CudaGraphs) -> None:
    """Wait for the device, which a capture forbids and which invalidates it."""
    torch.empty(64 * 2**20, device="cuda").fill_(1)
    torch.cuda.synchronize()


@pytest.mark.parametrize("work", [run_out_of_memory, leave_a_stream_unjoined, wait_for_the_device])
def test_failed_capture_leaves_the_device_usable(work: Callable[[CudaGraphs], None]) -> None:
    """The stream is the caller's, memory is given back, the generator draws, and another capture works."""
    graphs = CudaGraphs(torch.device("cuda", 0))
    caller_stream = torch.cuda.current_stream()
    numbers = torch.zeros(3, device="cuda")
    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved()
    with pytest.raises(RuntimeError):
        capture(graphs, lambda: work(graphs))
    verify_after(graphs, "test")
    assert torch.cuda.current_stream() == caller_stream
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= reserved + 2**21
    assert 0 <= float(torch.rand((), device="cuda")) < 1
    capture(graphs, lambda: numbers.add_(1)).replay()
    assert numbers.tolist() == [1, 1, 1]


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("layer", DRAWING_LAYERS)
def test_networks_that_draw(layer: str) -> None:
    """Five siblings in one graph end where eager steps on the device and on the CPU end; each has draws of its own."""
    recipe = Recipe(epochs=4, batch_size=24, learning_rate=0.02, precision="fp32")
    on_device, on_cpu = Family("perceptron", recipe, "cuda"), Family("perceptron", recipe)
    found: list[Stepping] = []
    ends_of = {}
    for name, family, policy in [
        ("captured", on_device, ALWAYS_CAPTURED),
        ("eager", on_device, CapturePolicy(capture_from=10**9)),
        ("cpu", on_cpu, ALWAYS_CAPTURED),
    ]:
        trainers, starts = zip(*(sibling_with(family, layer, member) for member in range(5)), strict=True)
        ends_of[name] = train_together(trainers, starts, 4, capture_policy=policy, on_stepping=found.append)
    assert [stepping.manner for stepping in found] == ["captured", "eager", "eager"]
    assert distance(on_cpu, ends_of["captured"], ends_of["eager"]) < 0.02
    assert distance(on_cpu, ends_of["captured"], ends_of["cpu"]) < 0.02
    assert not same(ends_of["captured"][0], ends_of["captured"][1])
