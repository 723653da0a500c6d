"""The fused LayerNorm in Triton's interpreter, against float64. `test_layer_norm.py` runs this file with TRITON_INTERPRET=1.

The interpreter cuts float32 off to bfloat16 where a GPU rounds, so bfloat16 results are compared with a tolerance of one unit.
"""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

os.environ.setdefault("OMP_NUM_THREADS", "1")
assert os.environ["TRITON_INTERPRET"] == "1"

from torch.utils.flop_counter import FlopCounterMode

from harness import kernels
from harness.kernels import triton_layer_norm
from harness.kernels.layer_norm_function import (
    Variant,
    check_layer_norm,
    fused_layer_norm,
    plain_layer_norm,
    variant_of,
)
from harness_vision.resnet20_network import LayerNorm2d, ResNet20Network

EPS = 1e-6
VARIANTS = list(itertools.product([False, True], [False, True]))
MODES = ["plain", "relu", "residual", "residual, relu"]


def tensors(shape: tuple[int, ...], dtype: torch.dtype, *, residual: bool, seed: int = 0) -> list[Tensor]:
    """Return x, weight, bias and, if there is one, residual; weight and bias are float32, as under autocast."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    x = (draw(*shape) * 2 + 0.5).to(dtype).contiguous(memory_format=torch.channels_last)
    found = [x, 1 + 0.3 * draw(shape[1]), 0.3 * draw(shape[1])]
    if residual:
        found.append(draw(*shape).to(dtype).contiguous(memory_format=torch.channels_last))
    return [tensor.requires_grad_() for tensor in found]


def doubled(inputs: list[Tensor]) -> list[Tensor]:
    """Return the inputs in float64."""
    return [tensor.detach().double().requires_grad_() for tensor in inputs]


def outcome(function, inputs: list[Tensor], grad: Tensor, *, relu: bool) -> list[Tensor]:
    """Return the output and the gradients by all inputs."""
    residual = inputs[3] if len(inputs) > 3 else None
    y = function(inputs[0], inputs[1], inputs[2], residual, EPS, relu)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad.to(y.dtype))]


def gradient_for(inputs: list[Tensor], *, relu: bool) -> Tensor:
    """Return a gradient by the output that is 0 near the bend of the ReLU, where rounding decides."""
    generator = torch.Generator().manual_seed(7)
    grad = torch.randn(inputs[0].shape, generator=generator)
    if relu:
        before = outcome(plain_layer_norm, doubled(inputs), grad.double(), relu=False)[0]
        grad = grad * (before.abs() > 0.03)
    return grad.to(inputs[0].dtype)


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest deviation, relative to the largest value or 1."""
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected).abs().max()) / max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("residual", "relu"), VARIANTS, ids=MODES)
@pytest.mark.parametrize("channels", [1, 3, 8, 17, 64, 100, 256])
def test_float32(channels: int, residual: bool, relu: bool) -> None:
    """Output and gradients are as close to float64 as those of PyTorch's operations, up to a factor of 3."""
    inputs = tensors((3, channels, 3, 5), torch.float32, residual=residual)
    grad = gradient_for(inputs, relu=relu)
    expected = outcome(plain_layer_norm, doubled(inputs), grad, relu=relu)
    fused = outcome(fused_layer_norm, inputs, grad, relu=relu)
    plain = outcome(plain_layer_norm, inputs, grad, relu=relu)
    for one, other, right in zip(fused, plain, expected, strict=True):
        assert one.dtype == torch.float32
        assert error(one, right) < 3 * error(other, right) + 1e-6


@pytest.mark.parametrize(("residual", "relu"), VARIANTS, ids=MODES)
@pytest.mark.parametrize("channels", [3, 17, 64])
def test_bfloat16(channels: int, residual: bool, relu: bool) -> None:
    """Output and gradients by images have x's dtype and are off by one unit; gradients by weights are float32."""
    inputs = tensors((3, channels, 3, 5), torch.bfloat16, residual=residual)
    grad = gradient_for(inputs, relu=relu)
    expected = outcome(plain_layer_norm, doubled(inputs), grad, relu=relu)
    fused = outcome(fused_layer_norm, inputs, grad, relu=relu)
    assert [tensor.dtype for tensor in fused[:4]] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    for index, (one, right) in enumerate(zip(fused, expected, strict=True)):
        assert error(one, right) < (1e-6 if index in (2, 3) else 2**-7)


def test_weights_in_bfloat16() -> None:
    """A network whose weights are bfloat16 gets gradients in bfloat16."""
    x, weight, bias = tensors((2, 8, 3, 3), torch.bfloat16, residual=False)
    inputs = [x, weight.detach().bfloat16().requires_grad_(), bias.detach().bfloat16().requires_grad_()]
    grad = gradient_for(inputs, relu=True)
    found = outcome(fused_layer_norm, inputs, grad, relu=True)
    assert {tensor.dtype for tensor in found} == {torch.bfloat16}
    for one, right in zip(found, outcome(plain_layer_norm, doubled(inputs), grad, relu=True), strict=True):
        assert error(one, right) < 2**-7


@pytest.mark.parametrize(("residual", "relu"), VARIANTS, ids=MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_first_use_on_a_device(dtype: torch.dtype, residual: bool, relu: bool) -> None:
    """The check passes for every variant."""
    for channels in (1, 3, 64, 250):
        check_layer_norm(Variant(dtype, torch.float32, channels, residual, relu), torch.device("cpu"))


def test_more_tiles_than_programs() -> None:
    """Every row counts if a program of the backward pass has several tiles; two runs are equal to the bit."""
    x, weight, bias = (tensor.detach() for tensor in tensors((1, 250, 9, 5), torch.float32, residual=False))
    grad = torch.randn(1, 250, 9, 5).contiguous(memory_format=torch.channels_last)
    _, mean, rstd = triton_layer_norm.forward(x, weight, bias, None, EPS, False)
    saved = (grad, x, weight, bias, None, mean, rstd, False)
    expected = triton_layer_norm.backward(*saved)  # six tiles of eight rows, each its own program
    for max_programs in (1, 2, 4):
        found = triton_layer_norm.backward(*saved, max_programs=max_programs)
        again = triton_layer_norm.backward(*saved, max_programs=max_programs)
        for one, same, right in zip(found, again, expected, strict=True):
            assert torch.equal(one, same)
            torch.testing.assert_close(one, right, rtol=1e-5, atol=1e-5)


def test_derivative_along_directions() -> None:
    """Gradients are the slope between two points nearby."""
    inputs = tensors((2, 5, 2, 2), torch.float32, residual=True, seed=3)
    grad = gradient_for(inputs, relu=True)
    _, *gradients = outcome(fused_layer_norm, inputs, grad, relu=True)
    step = 2e-3
    for index, gradient in enumerate(gradients):
        for seed in range(3):
            direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(seed))
            sides = []
            for sign in (1, -1):
                moved = [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in inputs]
                moved[index] += sign * step * direction
                y = fused_layer_norm(*moved, EPS, True)
                sides.append((y.double() * grad).sum())
            slope = (sides[0] - sides[1]) / (2 * step)
            torch.testing.assert_close(slope, (gradient.double() * direction).sum(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("residual", "relu"), VARIANTS, ids=MODES)
def test_gradients_of_gradients(residual: bool, relu: bool) -> None:
    """With create_graph, a gradient penalty has the gradients of PyTorch's operations."""
    inputs = tensors((2, 5, 2, 3), torch.float32, residual=residual)
    grad = gradient_for(inputs, relu=relu)
    found = []
    for function, own in ((fused_layer_norm, inputs), (plain_layer_norm, doubled(inputs))):
        y = function(own[0], own[1], own[2], own[3] if residual else None, EPS, relu)
        first = torch.autograd.grad((y.square() * grad).sum(), own, create_graph=True)
        penalty = sum(part.square().sum() for part in first)
        found.append([*first, *torch.autograd.grad(penalty, own)])
    for one, right in zip(*found, strict=True):
        assert error(one, right) < 1e-5


def test_gradient_in_another_layout() -> None:
    """An expanded gradient, an NCHW one and one at an odd address give the same."""
    inputs = tensors((2, 8, 4, 4), torch.float32, residual=True)
    dense = torch.randn(2, 8, 1, 1).expand(2, 8, 4, 4)
    odd = torch.empty(dense.numel() + 1)[1:].view(2, 4, 4, 8).permute(0, 3, 1, 2)
    odd.copy_(dense)
    assert odd.data_ptr() % 16
    results = [outcome(fused_layer_norm, inputs, grad, relu=True) for grad in (dense, dense.contiguous(), odd)]
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_values_that_are_not_finite() -> None:
    """NaN and infinity give NaN in their row, in the output and in x's gradient, and nowhere else."""
    x, weight, bias = tensors((1, 8, 2, 2), torch.float32, residual=False)
    with torch.no_grad():
        x[0, 3, 0, 0] = float("nan")
        x[0, 5, 1, 1] = float("inf")
    for result in outcome(fused_layer_norm, [x, weight, bias], torch.ones(1, 8, 2, 2), relu=True)[:2]:
        broken = result.isnan()[0]
        assert broken[:, 0, 0].all()
        assert broken[:, 1, 1].all()
        assert not broken[:, 0, 1].any()
        assert not broken[:, 1, 0].any()


def test_frozen_inputs() -> None:
    """Inputs that need no gradient get none; the others get theirs."""
    x, weight, bias, residual = tensors((2, 8, 3, 3), torch.float32, residual=True)
    y = fused_layer_norm(x.detach(), weight, bias.detach(), residual, EPS, True)
    y.sum().backward()
    assert x.grad is None
    assert bias.grad is None
    assert weight.grad is not None
    assert residual.grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation(mode: type) -> None:
    """Without gradients the output is the same to the bit."""
    norm = LayerNorm2d(8, relu=True)
    x = torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    expected = norm(x)
    assert expected.requires_grad
    with mode():
        found = norm(x)
    assert not found.requires_grad
    assert torch.equal(found, expected)


def network() -> ResNet20Network:
    """Return a narrow ResNet20 with random biases and scales, its weights channels-last."""
    torch.manual_seed(0)
    made = ResNet20Network(8, (3, 8, 8), 5)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.to(memory_format=torch.channels_last)


def test_network() -> None:
    """ResNet20 uses the kernels in all 21 norms; logits and gradients are as close to float64 as without them."""
    x = torch.randn(3, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = network()
    right = network().double()
    found = []
    for run, images in ((made, x), (made, x), (right, x.double())):
        with kernels.enabled(not found):
            logits = run(images)
        names = {str(node.name()) for node in nodes(logits)}
        assert ("_FusedLayerNormBackward" in names) == (not found)
        assert ("NativeLayerNormBackward0" in names) == bool(found)
        found.append([logits.detach(), *torch.autograd.grad(logits.square().sum(), list(run.parameters()))])
    for fused, plain, expected in zip(*found, strict=True):
        assert error(fused, expected) < max(10 * error(plain, expected), 2e-5)


def nodes(tensor: Tensor) -> set:
    """Return all nodes of a tensor's graph."""
    seen = set()
    waiting = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
    return seen


def test_network_under_autocast() -> None:
    """Activations stay bfloat16, and logits differ from those of PyTorch's operations by rounding."""
    x = torch.randn(3, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = network()
    dtypes = set()
    for module in made.modules():
        if isinstance(module, LayerNorm2d):
            module.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        fused = made(x)
        with kernels.enabled(False):
            plain = made(x)
    assert dtypes == {torch.bfloat16}
    torch.testing.assert_close(fused, plain, rtol=0.05, atol=0.1)


def call(x: Tensor) -> Tensor | None:
    """Return what an architecture gets for an image with 8 channels."""
    return kernels.layer_norm(x, torch.ones(8), torch.zeros(8), EPS, relu=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_where_torch_follows_each_operation() -> None:
    """vmap, forward-mode differentiation, tracing and counting modes get PyTorch's operations."""
    x = torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    assert call(x) is not None
    used = []

    def note(images: Tensor) -> Tensor:
        used.append(call(images))
        return images

    torch.func.vmap(note)(x[None])
    with FlopCounterMode(display=False):
        note(x)
    with forward_ad.dual_level():
        note(forward_ad.make_dual(x, x))
    torch.jit.trace(note, x, check_trace=False)
    note(torch.nn.Parameter(x))
    assert used == [None] * 5


def test_tracing_and_stacking_the_network() -> None:
    """torch.fx and vmap work as without kernels, though the network uses them."""
    made = network()
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    with kernels.enabled(False):
        expected = made(x)
    torch.testing.assert_close(torch.fx.symbolic_trace(made)(x), expected)
    state = {name: parameter.detach()[None] for name, parameter in made.named_parameters()}
    stacked = torch.func.vmap(lambda own: torch.func.functional_call(made, own, x))(state)
    torch.testing.assert_close(stacked[0], expected, rtol=1e-4, atol=1e-4)


def test_compiler() -> None:
    """torch.compile sees PyTorch's operations and no break of the graph."""
    made = network()
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    seen = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        seen.append(graph)
        return graph

    compiled = torch.compile(made, backend=backend, fullgraph=True, dynamic=False)
    logits = compiled(x)
    assert len(seen) == 1
    names = {str(node.name()) for node in nodes(logits)}
    assert "_FusedLayerNormBackward" not in names
    torch.testing.assert_close(logits, made(x), rtol=1e-4, atol=1e-4)


def test_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """HARNESS_PLAIN_KERNELS switches kernels off; `enabled` overrides it within its block."""
    x = torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    assert call(x) is not None
    with kernels.enabled(False):
        assert call(x) is None
    monkeypatch.setenv("HARNESS_PLAIN_KERNELS", "1")
    assert not kernels.is_enabled()
    assert call(x) is None
    with kernels.enabled(True):
        assert call(x) is not None
    assert call(x) is None


def test_empty_batch() -> None:
    """PyTorch's operations get it."""
    x = torch.zeros(0, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    assert call(x) is None
    assert variant_of(x, torch.ones(8), torch.zeros(8), None, True) is None
    assert LayerNorm2d(8, relu=True)(x).shape == (0, 8, 3, 3)
