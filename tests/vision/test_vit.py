"""ViT: parameter counts, outputs against a reference with `nn.MultiheadAttention`, dropout, the tutorial's initialization."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import UserError
from harness_vision.vit import ViT, ViTOptions
from harness_vision.vit_network import Attention, Patches, ViTNetwork, plain_attention

SMALL = {"patch": 4, "width": 24, "mlp": 40, "depth": 2, "heads": 3}


def small(**options: float) -> ViTNetwork:
    """Return a small network in float64 whose biases and scales are random."""
    torch.manual_seed(0)
    network = ViT(ViTOptions.model_validate(SMALL | options)).build((3, 8, 12), 7).double()
    assert isinstance(network, ViTNetwork)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


class TutorialBlock(nn.Module):
    """A pre-norm block with `nn.MultiheadAttention`, which has the weights of a block of `ViTNetwork`."""

    def __init__(self, ours: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(24)
        self.norm2 = nn.LayerNorm(24)
        self.attention = nn.MultiheadAttention(24, 3, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Dropout(dropout), nn.Linear(40, 24), nn.Dropout(dropout))
        self.double()
        renamed = {"attention.out": "attention.out_proj", "linear1": "mlp.0", "linear2": "mlp.3"}
        state = {}
        for name, tensor in ours.state_dict().items():
            module, _, kind = name.rpartition(".")
            if module == "attention.qkv":
                state[f"attention.in_proj_{kind}"] = tensor
            else:
                state[f"{renamed.get(module, module)}.{kind}"] = tensor
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class Tutorial(nn.Module):
    """The tutorial's network, which has the weights of a `ViTNetwork`."""

    def __init__(self, ours: ViTNetwork, dropout: float = 0.0) -> None:
        super().__init__()
        self.ours = ours
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Sequential(*(TutorialBlock(block, dropout) for block in ours.blocks))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4)  # (batch, channels, rows, columns, 4, 4)
        tokens = self.ours.embedding(patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))
        tokens = torch.cat([self.ours.class_token.repeat(len(x), 1, 1), tokens], 1) + self.ours.positions
        tokens = self.transformer(self.dropout(tokens))
        return self.ours.head(self.ours.norm(tokens[:, 0]))


@pytest.mark.parametrize(
    ("shape", "num_classes", "parameters"),
    [((3, 32, 32), 10, 3_195_146), ((3, 32, 32), 100, 3_218_276), ((3, 64, 64), 200, 3_293_128)],
)
def test_parameter_counts(shape: tuple[int, int, int], num_classes: int, parameters: int) -> None:
    """They are those of the tutorial's network, for the data sets of the paper."""
    network = ViT().build(shape, num_classes)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_equals_the_tutorial() -> None:
    """Logits in evaluation mode agree, for images that are not square."""
    network = small().eval()
    x = torch.randn(5, 3, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(network(x), Tutorial(network).eval()(x), rtol=1e-10, atol=1e-10)


def test_query_key_and_value_are_blocks_of_rows() -> None:
    """Attention computed head by head from the blocks of `qkv.weight` agrees."""
    torch.manual_seed(0)
    attention = Attention(24, 3, 0.0).double().eval()
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    q, k, v = (x @ block.T for block in attention.qkv.weight.split(24))
    heads = []
    for h in range(3):
        rows = slice(8 * h, 8 * h + 8)
        weights = (q[..., rows] @ k[..., rows].transpose(1, 2) / 8**0.5).softmax(-1)
        heads.append(weights @ v[..., rows])
    expected = torch.cat(heads, -1) @ attention.out.weight.T
    torch.testing.assert_close(attention(x), expected, rtol=1e-10, atol=1e-10)


def test_plain_attention_equals_torch() -> None:
    """It agrees with `F.scaled_dot_product_attention`."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    ours = plain_attention(q, k, v, nn.Identity(), scale=8**-0.5)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "random"),
    [
        ({"dropout": 0.0, "attention_dropout": 0.0}, False),
        ({"dropout": 0.5, "attention_dropout": 0.0}, True),
        ({"dropout": 0.0, "attention_dropout": 0.5}, True),
    ],
)
def test_dropout(options: dict[str, float], random: bool) -> None:
    """Each kind has an effect in training mode, and none in evaluation mode."""
    network = small(**options)
    x = torch.randn(5, 3, 8, 12, dtype=torch.float64)
    assert torch.equal(network(x), network(x)) is not random
    assert torch.equal(network.eval()(x), network(x))


def test_default_attention_dropout() -> None:
    """It is the value of `dropout`, also in the identity and in options read from JSON."""
    assert ViT().identity["options"]["attention_dropout"] == 0.2
    assert ViTOptions(dropout=0.0).attention_dropout == 0.0
    assert ViTOptions(dropout=0.3, attention_dropout=0.1).attention_dropout == 0.1
    explicit = ViTOptions(attention_dropout=0.2)
    assert ViT(explicit).identity == ViT().identity
    assert ViTOptions.model_validate_json(explicit.model_dump_json()) == explicit


def test_attention_dropout_keeps_the_mean() -> None:
    """Attention weights are dropped with the given probability, and the others scaled up."""
    torch.manual_seed(0)
    q = torch.zeros(1, 1, 200, 4)
    values = torch.ones(1, 1, 200, 4)
    out = plain_attention(q, q, values, nn.Dropout(0.25), scale=1.0)
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert out.std().item() == pytest.approx((0.25 / 0.75 / 200) ** 0.5, rel=0.2)


def test_positions_of_dropout() -> None:
    """Equal seeds give the tutorial's logits in training mode: dropout on tokens, attention weights, twice in the MLP."""
    network = small(dropout=0.5, attention_dropout=0.5)
    x = torch.randn(5, 3, 8, 12, dtype=torch.float64)
    tutorial = Tutorial(network, 0.5)
    torch.manual_seed(1)
    ours = network(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, tutorial(x), rtol=1e-10, atol=1e-10)


def test_initialization() -> None:
    """It is the tutorial's: N(0, 1) for class token and positions, PyTorch's defaults for the rest."""
    torch.manual_seed(0)
    network: Any = ViT().build((3, 32, 32), 10)
    assert network.positions.std().item() == pytest.approx(1, abs=0.03)
    assert network.class_token.std().item() == pytest.approx(1, abs=0.25)
    block = network.blocks[0]
    qkv = block.attention.qkv
    bound = (6 / (256 + 3 * 256)) ** 0.5  # Xavier's bound of the whole (768, 256) matrix
    assert bound * 0.99 < qkv.weight.abs().max() <= bound
    assert qkv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert not qkv.bias.any()
    assert not block.attention.out.bias.any()
    for linear in (block.attention.out, block.linear1, block.linear2, network.embedding, network.head):
        bound = linear.in_features**-0.5
        assert bound * 0.95 < linear.weight.abs().max() <= bound
    assert block.linear1.bias.any()


def test_order_of_patches() -> None:
    """Patches are in row-major order, and the pixels of a patch are ordered by channel."""
    x = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    patches = Patches((2, 4, 6), 2)(x)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]


def test_can_be_traced() -> None:
    """`torch.fx` traces one graph for all batch sizes."""
    network = small().eval()
    traced = torch.fx.symbolic_trace(network)
    for batch in (1, 5):
        x = torch.randn(batch, 3, 8, 12, dtype=torch.float64)
        assert torch.equal(traced(x), network(x))


def test_members_can_be_stacked() -> None:
    """`torch.func.vmap` over two stacked members gives the outputs of each."""
    a = small().eval()
    b = small().eval()
    with torch.no_grad():
        b.embedding.weight.mul_(-1)
    stacked, _ = torch.func.stack_module_state([a, b])
    x = torch.randn(3, 3, 8, 12, dtype=torch.float64)
    both = torch.func.vmap(lambda state: torch.func.functional_call(a, state, x))(stacked)
    torch.testing.assert_close(both, torch.stack([a(x), b(x)]), rtol=1e-10, atol=1e-10)


def test_autocast() -> None:
    """Logits in bfloat16 equal those of float32 within its precision."""
    network = small().float().eval()
    x = torch.randn(4, 3, 8, 12)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(x)
    torch.testing.assert_close(logits.float(), network(x), rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_devices_agree() -> None:
    """Attention by torch's kernel on CUDA agrees with the CPU."""
    network = small().eval()
    x = torch.randn(4, 3, 8, 12, dtype=torch.float64)
    expected = network(x)
    torch.testing.assert_close(network.cuda()(x.cuda()).cpu(), expected, rtol=1e-8, atol=1e-8)


def test_patches_that_do_not_divide_the_images() -> None:
    """The message gives both sizes and the rule."""
    with pytest.raises(UserError) as caught:
        ViT().build((3, 32, 30), 10)
    assert str(caught.value) == "vit: images of 32×30 pixels cannot be cut into square patches of 4; `patch` must divide both"


def test_heads_that_do_not_divide_the_width() -> None:
    """The message gives both numbers and the rule."""
    with pytest.raises(ValueError, match="width 256 cannot be divided among 7 heads; heads must divide the width"):
        ViTOptions(heads=7)
