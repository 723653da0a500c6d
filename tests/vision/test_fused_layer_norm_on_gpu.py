"""The fused LayerNorm on a CUDA device: sizes of ResNet20×4, graphs, side streams. Run with `-s` to see the times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness import kernels
from harness.kernels.layer_norm_function import fused_layer_norm, plain_layer_norm
from harness_vision.resnet20_network import LayerNorm2d, ResNet20Network

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

EPS = 1e-6
SIZES = [(128, 64, 32, 32), (128, 128, 16, 16), (128, 256, 8, 8)]
USES = [(False, False), (False, True), (True, True)]
"""The network's combinations of (residual, relu): after a shortcut's convolution, inside a block, at its end."""

REPLAYS = 50


def images(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Return random channels-last images on the device."""
    generator = torch.Generator("cuda").manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, device="cuda") * 2 + 0.5
    return drawn.to(dtype).contiguous(memory_format=torch.channels_last)


def inputs_of(shape: tuple[int, ...], dtype: torch.dtype, *, residual: bool) -> list[Tensor]:
    """Return x, weight, bias and, if there is one, residual."""
    generator = torch.Generator("cuda").manual_seed(9)
    weight = 1 + 0.3 * torch.randn(shape[1], generator=generator, device="cuda")
    bias = 0.3 * torch.randn(shape[1], generator=generator, device="cuda")
    inputs = [images(shape, dtype, 1), weight, bias]
    if residual:
        inputs.append(images(shape, dtype, 2))
    return [tensor.requires_grad_() for tensor in inputs]


def as_in_the_network(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
    """Return what the network computes under autocast without kernels."""
    y = plain_layer_norm(x.float(), weight, bias, None, eps, False).to(x.dtype)
    if residual is not None:
        y = y + residual
    return torch.relu(y) if relu else y


def outcome(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor, *, relu: bool) -> list[Tensor]:
    """Return the output and the gradients by all inputs."""
    residual = inputs[3] if len(inputs) > 3 else None
    y = function(inputs[0], inputs[1], inputs[2], residual, EPS, relu)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad.to(y.dtype))]


def error(found: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the deviation, relative to that of the values, or absolute if all values are 0."""
    size = expected.detach().square().mean().sqrt()
    deviation = (found.detach().double() - expected.detach()).square().mean().sqrt()
    return float(deviation / size) if size > 0 else float(deviation)


@pytest.mark.parametrize(("residual", "relu"), USES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SIZES, (3, 17, 5, 7), (129, 100, 9, 9), (2, 1, 3, 3)])
def test_against_float64(shape: tuple[int, ...], dtype: torch.dtype, residual: bool, relu: bool) -> None:
    """Output and gradients are as close to float64 as those of PyTorch's operations; two runs are equal to the bit."""
    inputs = inputs_of(shape, dtype, residual=residual)
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    grad = images(shape, dtype, 3)
    if relu:
        before_relu = outcome(plain_layer_norm, doubles, grad, relu=False)[0]
        grad = grad * (before_relu.abs() > 0.03)
    expected = outcome(plain_layer_norm, doubles, grad, relu=relu)
    fused = outcome(fused_layer_norm, inputs, grad, relu=relu)
    plain = outcome(as_in_the_network, inputs, grad, relu=relu)
    again = outcome(fused_layer_norm, inputs, grad, relu=relu)
    names = ["y", "x", "weight", "bias", "residual"]
    for name, one, other, right, same in zip(names, fused, plain, expected, again, strict=False):
        assert torch.equal(one, same)
        if shape[1] == 1 and name in ("x", "weight"):  # 0 but for rounding
            continue
        print(f"{name}: fused {error(one, right):.2e}, plain {error(other, right):.2e}")
        assert error(one, right) < 1.2 * error(other, right) + 2e-6


def test_more_than_two_billion_elements() -> None:
    """The last rows of a tensor of 2³¹ elements and more are right: offsets have 64 bits."""
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip("needs 30 GiB of free memory")
    x = torch.zeros(1, 5800, 5800, 64, dtype=torch.bfloat16, device="cuda").permute(0, 3, 1, 2)
    assert x.numel() > 2**31
    x[:, :, -2:] = images((1, 64, 2, 5800), torch.bfloat16, 4)
    x.requires_grad_()
    weight = torch.ones(64, device="cuda", requires_grad=True)
    bias = torch.zeros(64, device="cuda", requires_grad=True)
    y = fused_layer_norm(x, weight, bias, None, EPS, True)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    ends = x.detach()[:, :, -2:].contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = fused_layer_norm(ends, weight, bias, None, EPS, True)
    (expected_grad,) = torch.autograd.grad(expected, ends, torch.ones_like(expected))
    assert torch.equal(y[:, :, -2:], expected)
    assert torch.equal(grad[:, :, -2:], expected_grad)


def network_step(width: int, batch: int, precision: torch.dtype, seed: int) -> Callable[[], list[Tensor]]:
    """Return a function that computes the logits and gradients of a ResNet20 on one batch."""
    torch.manual_seed(seed)
    network = ResNet20Network(16 * width, (3, 32, 32), 10).cuda().to(memory_format=torch.channels_last)
    batch_images = images((batch, 3, 32, 32), torch.float32, seed)
    parameters = list(network.parameters())

    def step() -> list[Tensor]:
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == torch.bfloat16, cache_enabled=False):
            logits = network(batch_images)
        return [logits, *torch.autograd.grad(logits.float().square().mean(), parameters)]

    return step


def captured(work: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """Return a graph of the work, and the tensors that its replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    return graph, results


def test_network_against_plain() -> None:
    """Logits and gradients with kernels differ from those without by rounding."""
    step = network_step(2, 64, torch.bfloat16, 0)
    with kernels.enabled(True):
        fused = step()
    with kernels.enabled(False):
        plain = step()
    exact = network_step(2, 64, torch.float32, 0)
    with kernels.enabled(False):
        expected = [tensor.double() for tensor in exact()]
    for one, other, right in zip(fused, plain, expected, strict=True):
        assert error(one, right) < 1.5 * error(other, right) + 0.01


@pytest.mark.parametrize("members", [1, 3])
def test_in_a_graph(members: int) -> None:
    """A replay with a stream per member is equal to the eager step to the bit, and has no wait for the host."""
    steps = [network_step(1, 32, torch.bfloat16, member) for member in range(members)]
    streams = [torch.cuda.Stream() for _ in range(members)]

    def work() -> list[Tensor]:
        caller = torch.cuda.current_stream()
        results = []
        for step, stream in zip(steps, streams, strict=True):
            stream.wait_stream(caller)
            with torch.cuda.stream(stream):
                results += step()
        for stream in streams:
            caller.wait_stream(stream)
        return results

    torch.backends.cudnn.deterministic, before = True, torch.backends.cudnn.deterministic
    try:
        with kernels.enabled(True):
            expected = [result.clone() for result in work()]
            graph, results = captured(work)
            for result in results:
                result.fill_(float("nan"))
            graph.replay()
            torch.cuda.synchronize()
    finally:
        torch.backends.cudnn.deterministic = before
    for found, right in zip(results, expected, strict=True):
        assert torch.equal(found, right)


def test_first_use_in_a_graph() -> None:
    """A variant that was never checked is not used during a capture; afterwards it is checked and used."""
    norm = LayerNorm2d(40, relu=True).cuda()
    x = images((2, 40, 4, 4), torch.float32, 5)
    graph = torch.cuda.CUDAGraph()
    with kernels.enabled(False):
        norm(x)  # loads the plain kernels, which a capture must not
    torch.cuda.synchronize()
    with kernels.enabled(True):
        with torch.cuda.graph(graph):
            captured_y = norm(x)
        assert "Relu" in type(captured_y.grad_fn).__name__
        y = norm(x)
    assert "FusedLayerNorm" in type(y.grad_fn).__name__
    graph.replay()
    torch.testing.assert_close(captured_y, y, rtol=1e-5, atol=1e-5)


def test_description() -> None:
    """It names Triton, as long as no check has failed."""
    with kernels.enabled(True):
        assert kernels.describe("cuda").startswith("fused LayerNorm (Triton ")


def milliseconds(work: Callable[[], list[Tensor]]) -> float:
    """Return the time of the work on the device, in a graph: the median of five blocks of replays."""
    graph, _ = captured(work)
    times = []
    for _ in range(5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / REPLAYS)
    return sorted(times)[2]


@pytest.mark.parametrize(("residual", "relu"), USES)
@pytest.mark.parametrize("shape", SIZES)
def test_times(shape: tuple[int, ...], residual: bool, relu: bool) -> None:
    """Print the times of forward and backward pass: fused, plain, and plain compiled by inductor."""
    inputs = inputs_of(shape, torch.bfloat16, residual=residual)
    grad = images(shape, torch.bfloat16, 3)
    functions = {
        "fused": fused_layer_norm,
        "plain": as_in_the_network,
        "inductor": torch.compile(as_in_the_network, dynamic=False),
    }
    passes = 5 + (3 if residual else 0)  # x, y; x, gradient, its result; residual, y, its gradient
    size = inputs[0].numel() * 2
    for name, function in functions.items():
        time = milliseconds(lambda function=function: outcome(function, inputs, grad, relu=relu))
        print(f"{shape} residual={residual} relu={relu} {name}: {1e3 * time:.1f} us, {passes * size / time / 1e9:.2f} TB/s")


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_times_of_the_network(precision: torch.dtype) -> None:
    """Print the time of forward and backward pass of ResNet20×4 at batch 128, with and without kernels."""
    step = network_step(4, 128, precision, 0)
    for switch in (True, False, True, False):
        with kernels.enabled(switch):
            time = milliseconds(step)
        print(f"ResNet20×4, {precision}, kernels {switch}: {time:.3f} ms, {128 / time:.1f} k images/s")
