"""Closed-form maps of matrices, against random search, brute force and planted maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from harness import streams
from harness_basin.matching import Block, Factor
from harness_basin.matching.residual.moves import HeadFactors, Heads, Site
from harness_basin.matching.residual.procrustes import (
    balanced_factors,
    factor_distance,
    gram,
    invertible_factor_maps,
    mapped_factors,
    orthogonal_factor_maps,
    orthogonal_map,
    partial_map,
    product_gains,
    stream_map,
)
from harness_basin.matching.residual.residual_groups import ResidualGroups
from harness_basin.matching.residual.residual_matching import ResidualMatching
from harness_basin.matching.symmetry import Symmetry
from harness_basin.normal_numbers import normal


def random(seed: int, *shape: int) -> Tensor:
    """Return standard normal float64 numbers."""
    return normal(shape, streams.key("test_procrustes", seed))


def rotation(seed: int, *shape: int) -> Tensor:
    """Return random orthogonal matrices (…, n, n)."""
    return torch.linalg.qr(random(seed, *shape)).Q


def products(factors: tuple[Tensor, Tensor]) -> Tensor:
    """Return Sᵀ T per head."""
    return factors[0].mT @ factors[1]


def test_orthogonal_map_is_closer_than_ten_thousand_random_ones() -> None:
    """No random rotation moves B closer to A, and neither does a small one after it."""
    a, b = random(0, 4, 9), random(1, 4, 9)
    best = orthogonal_map(gram(a, b))
    assert torch.allclose(best @ best.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    distance = (a - best @ b).norm()
    others = rotation(2, 10_000, 4, 4)
    assert ((a - others @ b).flatten(1).norm(dim=1) > distance).all()
    small = torch.matrix_exp(1e-3 * (random(3, 1000, 4, 4) - random(3, 1000, 4, 4).mT))
    assert ((a - small @ best @ b).flatten(1).norm(dim=1) >= distance).all()


def test_stream_map_keeps_the_ones() -> None:
    """It is orthogonal, fixes the vector of ones, and recovers a planted map of centered weights."""
    a = random(0, 6, 20)
    a -= a.mean(0)
    basis = torch.linalg.qr(torch.cat([torch.ones(6, 1, dtype=torch.float64), random(1, 6, 5)], dim=1)).Q
    inner = torch.eye(6, dtype=torch.float64)
    inner[1:, 1:] = rotation(2, 5, 5)
    planted = basis @ inner @ basis.T
    found = stream_map(gram(a, planted.T @ a))
    assert torch.allclose(found, planted, atol=1e-12)
    assert torch.allclose(found.sum(1), torch.ones(6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found @ found.T, torch.eye(6, dtype=torch.float64), atol=1e-12)


def test_partial_map_follows_its_inputs() -> None:
    """With too few weights to determine the map, mapped inputs give the mapped result, of the same rank."""
    a, b = random(0, 5, 2), random(1, 5, 2)
    left, right = rotation(2, 5, 5), rotation(3, 5, 5)
    found = partial_map(gram(a, b))
    assert torch.linalg.matrix_rank(found) == 2
    assert torch.allclose(partial_map(gram(left @ a, right @ b)), left @ found @ right.T, atol=1e-12)


def test_products_do_not_change_with_maps_within_heads() -> None:
    """QᵀK, OV and what pairs of heads gain are the same to 1e-12 after invertible maps of either network."""
    first, second = (random(0, 3, 4, 7), random(1, 3, 4, 7)), (random(2, 3, 4, 7), random(3, 3, 4, 7))
    moved = mapped_factors(second, random(4, 3, 4, 4) + 3 * torch.eye(4, dtype=torch.float64))
    assert torch.allclose(products(moved), products(second), rtol=1e-12, atol=1e-12)
    gains = product_gains(first, second)
    expected = torch.einsum("iab,jab->ij", products(first), products(second))
    assert torch.allclose(gains, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(product_gains(first, moved), gains, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [9, 3])
def test_balanced_factors(width: int) -> None:
    """They have the given products, equal Gram matrices and the smallest norms, and are unique up to a rotation."""
    factors = (random(0, 2, 4, width), random(1, 2, 4, 9))
    balanced = balanced_factors(*factors)
    assert torch.allclose(products(balanced), products(factors), atol=1e-12)
    assert torch.allclose(gram(balanced[0], balanced[0]), gram(balanced[1], balanced[1]), atol=1e-12)
    nuclear = torch.linalg.svdvals(products(factors)).sum(1)
    assert torch.allclose(balanced[0].square().sum((1, 2)), nuclear, rtol=1e-12)
    for once, twice in zip(balanced, balanced_factors(*balanced), strict=True):
        assert torch.allclose(once, twice, atol=1e-12)
    moved = balanced_factors(*mapped_factors(factors, random(2, 2, 4, 4) + 3 * torch.eye(4, dtype=torch.float64)))
    maps = orthogonal_factor_maps(balanced, moved)
    assert (factor_distance(balanced, mapped_factors(moved, maps)) <= 1e-20).all()


def test_invertible_maps() -> None:
    """They are closer than orthogonal ones, keep products, end where no small map is much closer, and undo a planted map."""
    first, second = (random(0, 3, 4, 7), random(1, 3, 4, 7)), (random(2, 3, 4, 7), random(3, 3, 4, 7))
    start = orthogonal_factor_maps(first, second)
    maps = invertible_factor_maps(first, second, start)
    moved = mapped_factors(second, maps)
    distance = factor_distance(first, moved)
    assert (distance < factor_distance(first, mapped_factors(second, start))).all()
    assert torch.allclose(products(moved), products(second), atol=1e-10)
    for seed in range(20):
        nearby = mapped_factors(moved, torch.matrix_exp(1e-3 * random(seed, 3, 4, 4)))
        assert (factor_distance(first, nearby) >= (1 - 1e-4) * distance).all()
    planted = mapped_factors(first, torch.matrix_exp(0.3 * random(9, 3, 4, 4)))
    undone = mapped_factors(planted, invertible_factor_maps(first, planted, orthogonal_factor_maps(first, planted)))
    assert (factor_distance(first, undone) <= 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_heads_against_all_their_orders(seed: int) -> None:
    """The assignment of four heads is the one of 4! with the smallest ‖QᵀK - Q'ᵀK'‖² + ‖OV - O'V'‖²."""
    blocks = [Block(name, 0, (Factor(0, 4, 15, 0), Factor(0, 3, 5, 1), Factor(1, 5, 1, None))) for name in "qkvo"]
    sites = [Site(block, 1, 0) for block in blocks]
    pairs = (HeadFactors((sites[0],), (sites[1],)), HeadFactors((sites[2],), (sites[3],)))
    heads = Heads(tuple(Site(block, 0) for block in blocks), pairs)
    groups = ResidualGroups(Symmetry((), tuple(blocks), {}), (), (), (heads,), frozenset(blocks))
    reference = {block: random(10 * seed + k, 4, 3, 5) for k, block in enumerate(blocks)}
    other = {block: random(10 * seed + k + 4, 4, 3, 5) for k, block in enumerate(blocks)}
    order = ResidualMatching(groups, reference, other, "orthogonal")._head_moves(heads)[0].order

    def cost(orders: list[int]) -> float:
        total = 0.0
        for one, two in ((blocks[0], blocks[1]), (blocks[2], blocks[3])):
            difference = products((reference[one], reference[two])) - products((other[one][orders], other[two][orders]))
            total += float(difference.square().sum())
        return total

    costs = {orders: cost(list(orders)) for orders in itertools.permutations(range(4))}
    assert len(costs) == 24
    assert np.isclose(cost(order.tolist()), min(costs.values()), rtol=1e-12)
