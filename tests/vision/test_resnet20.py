"""ResNet20: published sizes, a reference written in straight lines, initialization, and what others do to the network."""

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
    """Return a narrow network in float64 whose biases and scales are not trivial."""
    torch.manual_seed(0)
    network = ResNet20Network(4, shape, num_classes, same=same).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def reference(state: dict[str, Tensor], x: Tensor, *, same: bool) -> Tensor:
    """git-re-basin's ResNet20 line by line, on tensors alone."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        before, after = [], []
        for n in x.shape[2:]:  # the definition of SAME: as many outputs as strides fit, the odd zero after
            total = max((-(-n // stride) - 1) * stride + 3 - n, 0) if same else 2
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
            stride, at = 2 if group > 0 and block == 0 else 1, f"groups.{group}.{block}"
            y = norm(conv(x, f"{at}.conv1", stride), f"{at}.norm1").clamp(min=0)
            y = norm(conv(y, f"{at}.conv2"), f"{at}.norm2")
            if stride == 2:
                x = norm(conv(x, f"{at}.shortcut_conv", 2), f"{at}.shortcut_norm")
            x = (x + y).clamp(min=0)
    return x.mean(3).mean(2) @ state["dense.weight"].T + state["dense.bias"]


@pytest.mark.parametrize(
    ("width", "num_classes", "parameters"),
    [(4, 10, 4_655_434), (4, 100, 4_678_564), (4, 200, 4_704_264), (1, 10, 292_954), (2, 10, 1_166_506)],
)
def test_parameter_counts(width: int, num_classes: int, parameters: int) -> None:
    """As in git-re-basin, for every number of classes in the paper."""
    network = ResNet20(ResNet20Options(width=width)).build((3, 32, 32), num_classes)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(list(network.parameters())) == len(network.state_dict()) == 65


def test_half_width() -> None:
    """Groups of 8, 16 and 32 channels."""
    network = ResNet20(ResNet20Options(width=0.5)).build((3, 8, 8), 10)
    assert [network.get_parameter(f"groups.{g}.2.conv2.weight").shape[0] for g in range(3)] == [8, 16, 32]


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (3, 15, 15), (2, 14, 9), (3, 5, 6), (1, 2, 1)])
def test_equals_the_reference(shape: tuple[int, int, int], same: bool) -> None:
    """Logits and gradients, for even and odd sizes."""
    network = small(shape, same=same)
    state = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    x = torch.randn(3, *shape, dtype=torch.float64)
    ours, theirs = network(x), reference(state, x, same=same)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    grads = torch.autograd.grad(ours.square().sum(), list(network.parameters()))
    expected = torch.autograd.grad(theirs.square().sum(), list(state.values()))
    for got, want in zip(grads, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


def test_paddings_differ() -> None:
    """The option does something where the stride is 2."""
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert (small(same=True)(x) - small(same=False)(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "margins"), [((32, 32), (0, 1, 0, 1)), ((8, 7), (1, 1, 0, 1)), ((7, 8), (0, 1, 1, 1)), ((7, 7), None)]
)
def test_same_margins(size: tuple[int, int], margins: tuple[int, ...] | None) -> None:
    """Even sizes get their zero behind; where both are odd the convolution's own padding does."""
    assert same_margins(*size) == margins


def test_layer_norm_is_over_channels() -> None:
    """As `F.layer_norm` on channels-last data and as timm's module, in float64."""
    torch.manual_seed(0)
    norm, theirs = LayerNorm2d(6).double(), TimmLayerNorm2d(6).double()
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
    """What comes in channels-last goes out so, without a copy in between."""
    x = torch.randn(2, 6, 3, 4).to(memory_format=torch.channels_last)
    assert LayerNorm2d(6)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["groups.2.1.conv1.weight", "groups.1.0.shortcut_conv.weight", "dense.weight", "conv1.weight"])
def test_weights_are_truncated_lecun_normal(name: str) -> None:
    """Variance 1 / fan_in, nothing beyond two standard deviations of the normal that was cut, mean 0."""
    torch.manual_seed(0)
    weight = ResNet20Network(64, (3, 32, 32), 200).get_parameter(name).detach().double()
    fan_in, n = weight[0].numel(), weight.numel()
    cut = truncnorm(-2, 2)
    assert cut.std() == pytest.approx(0.87962566103423978, rel=1e-12)
    error = math.sqrt((cut.stats("k") + 2) / n)  # of a variance, relative: kurtosis of the cut normal
    assert weight.var().item() * fan_in == pytest.approx(1, abs=5 * error)
    assert abs(weight.mean().item()) * math.sqrt(fan_in) < 5 / math.sqrt(n)
    assert weight.abs().max().item() <= 2 / math.sqrt(fan_in) / cut.std() * (1 + 1e-6)
    assert weight.abs().max().item() > 1.8 / math.sqrt(fan_in) / cut.std()


def test_biases_and_scales_at_initialization() -> None:
    """0 and 1."""
    network = ResNet20Network(8, (3, 8, 8), 10)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            assert parameter.eq(1.0 if name.endswith("weight") else 0.0).all(), name


def test_initialization_follows_the_generator() -> None:
    """One seed, one network; the previous weights do not matter."""
    networks = []
    for fill in (0.0, 1.0):
        network = ResNet20Network(4, (3, 8, 8), 10)
        with torch.no_grad():
            network.dense.weight.fill_(fill)
        torch.manual_seed(3)
        initialize(network)
        networks.append(network)
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in networks)))


def test_can_be_traced() -> None:
    """`torch.fx` sees one graph, for any batch size."""
    network = small()
    traced = torch.fx.symbolic_trace(network)
    for batch in (1, 5):
        x = torch.randn(batch, 3, 16, 16, dtype=torch.float64)
        assert torch.equal(traced(x), network(x))


def test_members_can_be_stacked() -> None:
    """Under `torch.func`, two members at once are the two of them."""
    a, b = small().eval(), small().eval()
    with torch.no_grad():
        b.conv1.weight.mul_(-1)
    stacked, _ = torch.func.stack_module_state([a, b])
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    both = torch.func.vmap(lambda state: torch.func.functional_call(a, state, x))(stacked)
    torch.testing.assert_close(both, torch.stack([a(x), b(x)]), rtol=1e-10, atol=1e-10)


def test_autocast_stays_in_bfloat16() -> None:
    """Every activation is bfloat16, and the logits are those of float32 within its precision."""
    network = small().float()
    x = torch.randn(4, 3, 16, 16)
    seen: set[torch.dtype] = set()
    for module in network.modules():
        module.register_forward_hook(lambda *args: seen.add(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(x)
    assert seen == {torch.bfloat16}
    torch.testing.assert_close(logits.float(), small().float()(x), rtol=0.05, atol=0.05)


def test_width_must_give_whole_channels() -> None:
    """The message says how many channels it would be and what is allowed."""
    with pytest.raises(ValueError, match=r"16 × 0\.3 = 4\.8 channels; 16 × width must be a whole number, as for 0\.5, 1 and 4"):
        ResNet20Options(width=0.3)


@pytest.mark.parametrize("width", [0, -1, True, "4", float("inf"), float("nan")])
def test_widths_that_are_none(width: object) -> None:
    """Only positive numbers."""
    with pytest.raises(ValueError, match="width"):
        ResNet20Options.model_validate({"width": width})


def test_equal_widths_have_one_identity() -> None:
    """4 and 4.0 are the same network, so they have the same key."""
    identity = ResNet20(ResNet20Options(width=4.0)).identity
    assert repr(identity) == repr(ResNet20().identity)
    assert identity == {"name": "resnet20", "version": 1, "options": {"width": 4, "padding": "same"}}
