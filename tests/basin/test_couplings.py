"""Pull, shuffle and mixture on plain vectors: what they keep, what they change, and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness import CouplingStep, streams
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.shuffle import Shuffle

SIZE = 1000


def step(number: int = 1, rate: float = 1.0, size: int = SIZE) -> CouplingStep:
    """Return a step at a peak rate of 1."""
    return CouplingStep(number, rate, 1.0, streams.key("test", number), torch.ones(size))


def networks(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return vectors of normal numbers."""
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(SIZE, generator=generator, dtype=dtype) for _ in range(count)]


def test_pull_keeps_the_sum() -> None:
    """To rounding, whatever its strength; the networks come closer by the factor 1 − (1 − α) · rate / peak."""
    before, after = networks(3), networks(3)
    Pull(Pull.Options(alpha=0.9, every=1)).after_step(after, step(rate=0.5))
    torch.testing.assert_close(sum(after), sum(before), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after[0] - after[1], 0.95 * (before[0] - before[1]), rtol=1e-4, atol=1e-5)


def test_pull_to_the_mean() -> None:
    """At α = 0 and the peak rate, all networks are their mean, to the bit."""
    pulled = networks(3)
    Pull(Pull.Options(alpha=0, every=1)).after_step(pulled, step())
    assert all(torch.equal(pulled[0], other) for other in pulled)
    torch.testing.assert_close(pulled[0], sum(networks(3)) / 3)


def test_steps_of_pulls() -> None:
    """The pull comes after every tenth step, counted from initialization."""
    pull = Pull()
    pulled = []
    for number in range(1, 31):
        vectors = networks(2)
        pull.after_step(vectors, step(number))
        if not torch.equal(vectors[0], networks(2)[0]):
            pulled.append(number)
    assert pulled == [10, 20, 30]


@pytest.mark.parametrize("p", [0.001, 0.1, 0.6, 1.0])
def test_shuffle_keeps_the_values(p: float) -> None:
    """At each coordinate the networks have the values that they had, and so their exact sum; a share p is drawn."""
    before, after = torch.stack(networks(4)), networks(4)
    Shuffle(Shuffle.Options(p=p)).after_step(after, step())
    found = torch.stack(after)
    assert torch.equal(found.sort(0).values, before.sort(0).values)
    assert all(math.fsum(a) == math.fsum(b) for a, b in zip(found.T.tolist(), before.T.tolist(), strict=True))
    moved = int((found != before).any(0).sum())
    assert moved <= round(p * SIZE)
    assert moved >= 0.8 * p * SIZE - 1  # one of 24 permutations changes nothing


def test_places_of_the_shuffle() -> None:
    """Over many steps, every coordinate and every permutation comes about as often as any other."""
    shuffle = Shuffle(Shuffle.Options(p=0.1))
    counts, kept = torch.zeros(SIZE), 0
    for number in range(1, 401):
        vectors = [torch.full((SIZE,), float(index)) for index in range(2)]
        shuffle.after_step(vectors, step(number))
        counts += vectors[0] != 0
        kept += SIZE // 10 - int((vectors[0] != 0).sum())
    assert float(counts.sum()) / 400 == pytest.approx(SIZE / 10 / 2, rel=0.02)  # half of the permutations of two change nothing
    assert float(counts.mean()) == pytest.approx(20, rel=0.02)
    assert float(counts.var()) == pytest.approx(20 * 0.95, rel=0.25)


def test_small_share_of_a_small_network() -> None:
    """One coordinate is shuffled, although p · size is rounded to 0."""
    vectors = [torch.zeros(20), torch.ones(20)]
    shuffle = Shuffle(Shuffle.Options(p=0.001))
    changes = 0
    for number in range(1, 21):
        shuffle.after_step(vectors, step(number, size=20))
        changes += int(vectors[0].sum())
    assert changes > 0


@pytest.mark.parametrize("concentration", [1.0, 0.3, 5.0])
def test_distribution_of_mixtures(concentration: float) -> None:
    """The shares have mean 1/M and the variance of a Dirichlet distribution."""
    mixture = Mixture(Mixture.Options(concentration=concentration))
    found = torch.tensor([list(mixture.mixture(3, step(number, size=1))) for number in range(4000)])
    torch.testing.assert_close(found.mean(0), torch.full((3,), 1 / 3), rtol=0.05, atol=0)
    variance = (1 / 3) * (2 / 3) / (3 * concentration + 1)
    torch.testing.assert_close(found.var(0), torch.full((3,), variance), rtol=0.1, atol=0)


@pytest.mark.parametrize("concentration", [1e-4, 1e-300])
def test_mixtures_of_a_tiny_concentration(concentration: float) -> None:
    """They are single networks, each equally often, also where all numbers that are drawn are 0."""
    mixture = Mixture(Mixture.Options(concentration=concentration))
    found = torch.tensor([list(mixture.mixture(3, step(number, size=1))) for number in range(1800)], dtype=torch.float64)
    assert (found.sum(1) - 1).abs().max() < 1e-12
    assert (found.max(1).values > 0.999).double().mean() > 0.99
    assert all(520 < count < 680 for count in found.argmax(1).bincount(minlength=3).tolist())  # 600, within 4 deviations


@pytest.mark.parametrize("concentration", [1e300, 1.7e308])
def test_mixtures_of_a_huge_concentration(concentration: float) -> None:
    """They are at the center, also where the numbers that are drawn have no finite sum."""
    mixture = Mixture(Mixture.Options(concentration=concentration))
    assert list(mixture.mixture(3, step(1, size=1))) == pytest.approx([1 / 3] * 3, rel=1e-12)


def test_pairs_of_the_penalty() -> None:
    """Over many steps, every pair of networks is penalized equally often."""
    vectors = torch.stack(networks(3))
    counts: dict[tuple[int, ...], int] = {}
    for number in range(600):
        gradients = torch.zeros_like(vectors)
        Mixture().add_penalty(gradients, vectors, step(number))
        pair = tuple(index for index in range(3) if gradients[index].any())
        counts[pair] = counts.get(pair, 0) + 1
    assert sorted(counts) == [(0, 1), (0, 2), (1, 2)]
    assert all(160 < count < 240 for count in counts.values())


def test_gradient_of_the_penalty() -> None:
    """It is that of β cos² over the masked coordinates, by finite differences; others get none."""
    beta = 2.5
    mask = (torch.arange(SIZE) % 3 != 0).double()
    now = CouplingStep(1, 1.0, 1.0, streams.key("test", 1), mask)
    vectors = torch.stack(networks(2, torch.float64)) + 0.3

    def penalty(pair: Tensor) -> float:
        return beta * float(torch.cosine_similarity(pair[0] * mask, pair[1] * mask, dim=0)) ** 2

    gradients = torch.zeros_like(vectors)
    Mixture(Mixture.Options(beta=beta)).add_penalty(gradients, vectors, now)
    assert not gradients[:, mask == 0].any()
    for member in range(2):
        for coordinate in (0, 1, 2, 500, 998):
            moved = torch.zeros_like(vectors)
            moved[member, coordinate] = 1e-5
            slope = (penalty(vectors + moved) - penalty(vectors - moved)) / 2e-5
            assert float(gradients[member, coordinate]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_descent_of_the_penalty() -> None:
    """Following it makes vectors orthogonal that were not."""
    vectors = torch.stack(networks(3)) + 1
    for number in range(200):
        gradients = torch.zeros_like(vectors)
        Mixture(Mixture.Options(beta=1000)).add_penalty(gradients, vectors, step(number))
        vectors -= 0.3 * gradients
    normal = vectors / vectors.norm(dim=1, keepdim=True)
    cosines = normal @ normal.T - torch.eye(3)
    assert float(cosines.abs().max()) < 0.02


def test_penalty_of_a_network_of_zeros() -> None:
    """It is 0, and not NaN."""
    vectors = torch.stack([torch.zeros(SIZE), torch.ones(SIZE)])
    gradients = torch.zeros_like(vectors)
    Mixture().add_penalty(gradients, vectors, step())
    assert not gradients.any()
