"""ResNet20: parameter counts, outputs against a plain reference, initialization, tracing, stacking and autocast."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import truncnorm
from timm.layers import LayerNorm2d as TimmLayerNorm2d
from torch import Tensor, nn

from harness_vision.resnet20 import ResNet20, ResNet20Options
from harness_vision.resnet20_network import LayerNorm2d, ResNet20Network, initialize, same_margins


def small(shape: tuple[int, int, int] = (3, 16, 16), *, same: bool = True, num_classes: int = 7) -> ResNet20Network:
    """Return a narrow network in float64 whose biases and scales are random."""
    torch.manual_seed(0)
    network = ResNet20Network(4, shape, num_classes, same=same).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def reference(state: dict[str, Tensor], x: Tensor, *, same: bool) -> Tensor:
    """Return the logits of git-re-basin's ResNet20, written without modules."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        before, after = [], []
        for n in x.shape[2:]:  # the definition of SAME: ceil(n / stride) outputs, an odd zero at the end
            total = 2
            if same:
                total = max((-(-n // stride) - 1) * stride + 3 - n, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        wide = x.new_zeros(*x.shape[:2], x.shape[2] + before[0] + after[0], x.shape[3] + before[1] + after[1])
        wide[:, :, before[0] : before[0] + x.shape[2], before[1] : before[1] + x.shape[3]] = x
        return F.conv2d(wide, state[f"{name}.weight"], stride=stride)

    def norm(x: Tensor, name: str) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        x = (x - mean) / (variance + 1e-6).sqrt()
        return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

    x = norm(conv(x, "conv1"), "norm1").clamp(min=0)
    for group in range(3):
        for block in range(3):
            prefix = f"groups.{group}.{block}"
            strided = group > 0 and block == 0
            y = norm(conv(x, f"{prefix}.conv1", 1 + strided), f"{prefix}.norm1").clamp(min=0)
            y = norm(conv(y, f"{prefix}.conv2"), f"{prefix}.norm2")
            if strided:
                x = norm(conv(x, f"{prefix}.shortcut_conv", 2), f"{prefix}.shortcut_norm")
            x = (x + y).clamp(min=0)
    return x.mean(3).mean(2) @ state["dense.weight"].T + state["dense.bias"]


@pytest.mark.parametrize(
    ("width", "num_classes", "parameters"),
    [(4, 10, 4_655_434), (4, 100, 4_678_564), (4, 200, 4_704_264), (1, 10, 292_954), (2, 10, 1_166_506)],
)
def test_parameter_counts(width: int, num_classes: int, parameters: int) -> None:
    """They are those of git-re-basin, for every number of classes in the paper."""
    network = ResNet20(ResNet20Options(width=width)).build((3, 32, 32), num_classes)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(list(network.parameters())) == len(network.state_dict()) == 65


def test_half_width() -> None:
    """The groups have 8, 16 and 32 channels."""
    network = ResNet20(ResNet20Options(width=0.5)).build((3, 8, 8), 10)
    assert [network.get_parameter(f"groups.{g}.2.conv2.weight").shape[0] for g in range(3)] == [8, 16, 32]


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (3, 15, 15), (2, 14, 9), (3, 5, 6), (1, 2, 1)])
def test_equals_the_reference(shape: tuple[int, int, int], same: bool) -> None:
    """Logits and gradients agree, for even and odd sizes."""
    network = small(shape, same=same)
    state = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    x = torch.randn(3, *shape, dtype=torch.float64)
    ours = network(x)
    theirs = reference(state, x, same=same)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    grads = torch.autograd.grad(ours.square().sum(), list(network.parameters()))
    expected = torch.autograd.grad(theirs.square().sum(), list(state.values()))
    for gradient, expected_gradient in zip(grads, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-8)


def test_paddings_differ() -> None:
    """The option changes the outputs."""
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert (small(same=True)(x) - small(same=False)(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "margins"), [((32, 32), (0, 1, 0, 1)), ((8, 7), (1, 1, 0, 1)), ((7, 8), (0, 1, 1, 1)), ((7, 7), None)]
)
def test_same_margins(size: tuple[int, int], margins: tuple[int, ...] | None) -> None:
    """Even sizes get their zero at the end; for two odd sizes the convolution's own padding is used."""
    assert same_margins(*size) == margins


def test_layer_norm_is_over_channels() -> None:
    """It equals `F.layer_norm` on channels-last data and timm's module, in float64; GroupNorm(1) differs."""
    torch.manual_seed(0)
    norm = LayerNorm2d(6).double()
    theirs = TimmLayerNorm2d(6).double()
    assert norm.eps == theirs.eps == 1e-6
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    theirs.load_state_dict(norm.state_dict())
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    plain = F.layer_norm(x.permute(0, 2, 3, 1).contiguous(), (6,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), plain, rtol=0, atol=0)
    torch.testing.assert_close(norm(x), theirs(x), rtol=1e-12, atol=1e-12)
    assert (norm(x) - nn.GroupNorm(1, 6).double()(x)).abs().max() > 0.1


def test_layer_norm_keeps_channels_last() -> None:
    """The output of a channels-last input is channels-last."""
    x = torch.randn(2, 6, 3, 4).to(memory_format=torch.channels_last)
    assert LayerNorm2d(6)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["groups.2.1.conv1.weight", "groups.1.0.shortcut_conv.weight", "dense.weight", "conv1.weight"])
def test_weights_are_truncated_lecun_normal(name: str) -> None:
    """The mean is 0, the variance 1 / fan_in, and no value is beyond two standard deviations of the normal."""
    torch.manual_seed(0)
    weight = ResNet20Network(64, (3, 32, 32), 200).get_parameter(name).detach().double()
    fan_in = weight[0].numel()
    n = weight.numel()
    truncated = truncnorm(-2, 2)
    assert truncated.std() == pytest.approx(0.87962566103423978, rel=1e-12)
    error = math.sqrt((truncated.stats("k") + 2) / n)  # relative, of a variance, from the kurtosis
    assert weight.var().item() * fan_in == pytest.approx(1, abs=5 * error)
    assert abs(weight.mean().item()) * math.sqrt(fan_in) < 5 / math.sqrt(n)
    assert weight.abs().max().item() <= 2 / math.sqrt(fan_in) / truncated.std() * (1 + 1e-6)
    assert weight.abs().max().item() > 1.8 / math.sqrt(fan_in) / truncated.std()


def test_biases_and_scales_at_initialization() -> None:
    """Biases are 0, scales 1."""
    network = ResNet20Network(8, (3, 8, 8), 10)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            assert parameter.eq(1.0 if name.endswith("weight") else 0.0).all(), name


def test_initialization_follows_the_generator() -> None:
    """Equal seeds give equal networks, whatever the weights were before."""
    networks = []
    for fill in (0.0, 1.0):
        network = ResNet20Network(4, (3, 8, 8), 10)
        with torch.no_grad():
            network.dense.weight.fill_(fill)
        torch.manual_seed(3)
        initialize(network)
        networks.append(network)
    one, other = networks
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_can_be_traced() -> None:
    """`torch.fx` traces one graph for all batch sizes."""
    network = small()
    traced = torch.fx.symbolic_trace(network)
    for batch in (1, 5):
        x = torch.randn(batch, 3, 16, 16, dtype=torch.float64)
        assert torch.equal(traced(x), network(x))


def test_members_can_be_stacked() -> None:
    """`torch.func.vmap` over two stacked members gives the outputs of each."""
    a = small().eval()
    b = small().eval()
    with torch.no_grad():
        b.conv1.weight.mul_(-1)
    stacked, _ = torch.func.stack_module_state([a, b])
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    both = torch.func.vmap(lambda state: torch.func.functional_call(a, state, x))(stacked)
    torch.testing.assert_close(both, torch.stack([a(x), b(x)]), rtol=1e-10, atol=1e-10)


def test_autocast_stays_in_bfloat16() -> None:
    """Every activation is bfloat16, and the logits equal those of float32 within its precision."""
    network = small().float()
    x = torch.randn(4, 3, 16, 16)
    dtypes: set[torch.dtype] = set()
    for module in network.modules():
        module.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(x)
    assert dtypes == {torch.bfloat16}
    torch.testing.assert_close(logits.float(), small().float()(x), rtol=0.05, atol=0.05)


def test_width_with_a_fraction_of_a_channel() -> None:
    """The message gives the number of channels and what is allowed."""
    with pytest.raises(ValueError, match=r"16 × 0\.3 = 4\.8 channels; 16 × width must be a whole number, as for 0\.5, 1 and 4"):
        ResNet20Options(width=0.3)


@pytest.mark.parametrize("width", [0, -1, True, "4", float("inf"), float("nan")])
def test_width_that_is_no_positive_number(width: object) -> None:
    """The option is refused."""
    with pytest.raises(ValueError, match="width"):
        ResNet20Options.model_validate({"width": width})


def test_equal_widths_have_one_identity() -> None:
    """4 and 4.0 have the same identity."""
    identity = ResNet20(ResNet20Options(width=4.0)).identity
    assert repr(identity) == repr(ResNet20().identity)
    assert identity == {"name": "resnet20", "version": 1, "options": {"width": 4, "padding": "same"}}
