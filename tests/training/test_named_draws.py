"""Random operations of a forward pass: their distributions, their streams, and which of them have no replacement."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import streams
from harness.training.dropout import Noise
from harness.training.named_draws import Draws

KEY = streams.key("test", "draws")
COUNT = 200_000


def drawn(draw: Callable[[], Tensor], key: int | Tensor = KEY) -> Tensor:
    """Return what an operation draws at the start of a step."""
    noise = Noise()
    noise.begin(key)
    draws = Draws(noise)
    with draws.named():
        out = draw()
    assert draws.found
    assert draws.unnamed == set()
    return out


OPERATIONS: dict[str, tuple[Callable[[], Tensor], float, float]] = {
    "bernoulli_": (lambda: torch.empty(COUNT).bernoulli_(0.3), 0.3, 0.21),
    "bernoulli_ of chances": (lambda: torch.empty(COUNT).bernoulli_(torch.full((COUNT,), 0.3)), 0.3, 0.21),
    "bernoulli": (lambda: torch.bernoulli(torch.full((COUNT,), 0.3)), 0.3, 0.21),
    "dropout": (lambda: F.dropout(torch.ones(COUNT), 0.2), 1.0, 0.25),
    "native_dropout": (lambda: torch.native_dropout(torch.ones(COUNT), 0.2, True)[0], 1.0, 0.25),
    "dropout1d": (lambda: F.dropout1d(torch.ones(COUNT, 1), 0.2), 1.0, 0.25),
    "rand": (lambda: torch.rand(COUNT), 0.5, 1 / 12),
    "rand_like": (lambda: torch.rand_like(torch.empty(COUNT, dtype=torch.float64)), 0.5, 1 / 12),
    "uniform_": (lambda: torch.empty(COUNT).uniform_(1, 3), 2.0, 1 / 3),
    "randn": (lambda: torch.randn(COUNT), 0.0, 1.0),
    "randn_like": (lambda: torch.randn_like(torch.empty(COUNT)), 0.0, 1.0),
    "normal_": (lambda: torch.empty(COUNT).normal_(2, 3), 2.0, 9.0),
    "normal": (lambda: torch.normal(2.0, 3.0, (COUNT,)), 2.0, 9.0),
    "normal of tensors": (lambda: torch.normal(torch.full((COUNT,), 2.0), torch.full((COUNT,), 3.0)), 2.0, 9.0),
    "exponential_": (lambda: torch.empty(COUNT).exponential_(2), 0.5, 0.25),
    "randint": (lambda: torch.randint(2, 6, (COUNT,)), 3.5, 1.25),
    "randint_like": (lambda: torch.randint_like(torch.empty(COUNT), 4), 1.5, 1.25),
}
"""Operations with the mean and the variance of what they draw."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_distribution(name: str) -> None:
    """Mean and variance are those of the operation, to five standard errors; torch's generator is not used."""
    draw, mean, variance = OPERATIONS[name]
    before = torch.get_rng_state()
    numbers = drawn(draw).double()
    assert torch.equal(torch.get_rng_state(), before)
    assert float(numbers.mean()) == pytest.approx(mean, abs=5 * (variance / COUNT) ** 0.5)
    assert float(numbers.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("name", OPERATIONS)
def test_numbers_are_those_of_the_key(name: str) -> None:
    """The key as a number or a tensor gives the same numbers, another key others; the type and the shape are torch's."""
    draw = OPERATIONS[name][0]
    numbers = drawn(draw)
    assert torch.equal(drawn(draw, torch.tensor(streams.signed(KEY))), numbers)
    assert not torch.equal(drawn(draw, KEY + 1), numbers)
    expected = draw()
    assert (numbers.dtype, numbers.shape, numbers.stride()) == (expected.dtype, expected.shape, expected.stride())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_uniform_numbers_are_below_one(dtype: torch.dtype) -> None:
    """No number is rounded to 1, in no type."""
    numbers = drawn(lambda: torch.rand(COUNT, dtype=dtype))
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1


@pytest.mark.parametrize(("p", "mean"), [(0.0, 0.0), (1.0, 1.0)])
def test_certain_events(p: float, mean: float) -> None:
    """With probability 0 or 1 all numbers are equal."""
    assert float(drawn(lambda: torch.empty(COUNT).bernoulli_(p)).mean()) == mean


def test_permutation() -> None:
    """It has every number once, and depends on the key."""
    order = drawn(lambda: torch.randperm(1000))
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(1000))
    assert not torch.equal(drawn(lambda: torch.randperm(1000), KEY + 1), order)


def test_mask_does_not_depend_on_the_memory_format() -> None:
    """Channels-last images have the mask of contiguous ones."""
    x = torch.ones(4, 8, 6, 6)
    assert torch.equal(drawn(lambda: F.dropout(x, 0.5)), drawn(lambda: F.dropout(x.to(memory_format=torch.channels_last), 0.5)))


def test_device_kernel_has_the_mask_of_the_cpu() -> None:
    """Functional dropout on CUDA is `native_dropout`, on the CPU it is `bernoulli_`; both drop the same values."""
    x = torch.randn(1000)
    fused = drawn(lambda: torch.native_dropout(x, 0.3, True)[0])
    torch.testing.assert_close(fused, drawn(lambda: F.dropout(x, 0.3)))


def test_gradient_has_the_mask_of_the_values() -> None:
    """The gradient of functional dropout is 0 where a value was dropped."""
    x = torch.ones(1000, requires_grad=True)
    for dropout in (lambda: F.dropout(x, 0.25), lambda: torch.native_dropout(x, 0.25, True)[0]):
        x.grad = None
        out = drawn(dropout)
        out.sum().backward()
        assert torch.equal(x.grad, out.detach())


class Fused(nn.Module):
    """Attention as timm's networks compute it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)


def test_attention_with_dropout() -> None:
    """Its mask is drawn from the key, also in a multi-head attention of torch; without dropout nothing is drawn."""
    x = torch.randn(2, 3, 4, 5)
    first = drawn(lambda: Fused()(x))
    assert torch.equal(drawn(lambda: Fused()(x)), first)
    assert not torch.equal(drawn(lambda: Fused()(x), KEY + 1), first)
    module = nn.MultiheadAttention(8, 2, dropout=0.5)
    y = torch.randn(3, 2, 8)
    drawn(lambda: module(y, y, y, need_weights=False)[0])
    draws = Draws(Noise())
    with draws.named():
        Fused().eval()(x)
    assert draws.found is False


def test_network_that_does_not_draw_is_left_alone() -> None:
    """After a block without draws, a draw is torch's, until the question is asked again."""
    noise = Noise()
    draws = Draws(noise)
    with draws.named():
        torch.ones(3).add_(1)
    assert draws.found is False
    torch.manual_seed(1)
    expected = torch.rand(5)
    torch.manual_seed(1)
    with draws.named():
        assert torch.equal(torch.rand(5), expected)
    draws.forget()
    with draws.named():
        assert not torch.equal(torch.rand(5), expected)
    assert draws.found


def own_generator() -> Tensor:
    """Draw from a generator other than torch's global one."""
    return torch.rand(3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: torch.multinomial(torch.ones(5), 2), "multinomial"),
        (lambda: F.rrelu(-torch.ones(5), training=True), "rrelu_with_noise"),
        (own_generator, "rand"),
    ],
)
def test_draw_without_a_replacement_is_listed(draw: Callable[[], Tensor], name: str) -> None:
    """The numbers are torch's, and the operation is named."""
    draws = Draws(Noise())
    torch.manual_seed(3)
    expected = draw()
    torch.manual_seed(3)
    with draws.named():
        assert torch.equal(draw(), expected)
    assert draws.unnamed == {name}


def test_repeated_forward_pass_is_refused() -> None:
    """A draw after the end of the forward pass would differ from the first one."""
    noise = Noise()
    noise.begin(KEY)
    noise.draw(4, torch.device("cpu"))
    noise.end()
    with pytest.raises(RuntimeError, match="disable gradient checkpointing of layers with dropout"):
        noise.draw(4, torch.device("cpu"))


def test_draw_on_another_device_than_the_graphs() -> None:
    """A captured step, whose key is on its device, cannot draw on the CPU."""
    noise = Noise()
    noise.begin(torch.zeros((), dtype=torch.int64, device="meta"))
    with pytest.raises(RuntimeError, match="drawn on the device cpu; a graph of meta cannot hold them"):
        noise.words(4, torch.device("cpu"))
