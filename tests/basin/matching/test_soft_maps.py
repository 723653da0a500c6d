"""Soft maps against permutations, explicit sums and finite differences."""

from __future__ import annotations

import pytest
import torch

from basin.matching.toy_networks import FACTORIES, SHAPE, built
from harness_basin.matching import Symmetry, derive_symmetry, identity, permute, random_permutations
from harness_basin.matching.sinkhorn_rebasin.sinkhorn import normalize
from harness_basin.matching.sinkhorn_rebasin.soft_maps import Maps, map_state, permutation_maps, round_maps


def random_maps(symmetry: Symmetry, sharpness: float = 1.0) -> Maps:
    """Return doubly stochastic matrices, float64."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for group in range(len(symmetry.groups)):
        shape = symmetry.shape(group)
        found.append(normalize(sharpness * torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64), 50))
    return tuple(found)


@pytest.mark.parametrize("name", FACTORIES)
def test_maps_that_are_permutations(name: str) -> None:
    """Matrices of permutations move weights as the permutations do, to the bit, and are rounded to them."""
    network = built(FACTORIES[name])
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = network.state_dict()
    permutations = random_permutations(symmetry, 4)
    permuted = permute(symmetry, permutations, state)
    mapped = map_state(symmetry, permutation_maps(permutations), state)
    assert all(torch.equal(mapped[key], permuted[key]) for key in state)
    rounded = round_maps(permutation_maps(permutations))
    assert all(torch.equal(p, q) for p, q in zip(rounded, permutations, strict=True))


def test_soft_heads_mix_soft_dimensions() -> None:
    """A value row of head i is Σ_j heads[i, j] Σ_e dimensions[j, d, e] row e of head j, its inputs mapped in turn."""
    network = built(FACTORIES["torch transformer"])
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    maps = random_maps(symmetry)
    (heads,) = [g for g, group in enumerate(symmetry.groups) if group.size == 3 and not group.within]
    values = [b for b in symmetry.blocks if b.parameter == "layer.self_attn.in_proj_weight" and b.offset == 2 * 12 * 12]
    dimensions = values[0].groups[1]
    assert dimensions is not None
    rows = state["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))[2]
    mixed = torch.zeros(3, 4, 12, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            mixed[i] += maps[heads][i, j] * (maps[dimensions][j] @ rows[j])
    mapped = map_state(symmetry, maps, state)["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))[2]
    torch.testing.assert_close(mapped, mixed)  # its inputs are pixels, which stay


@pytest.mark.parametrize("name", ["transformer", "grouped"])
def test_gradient_of_mapped_weights(name: str) -> None:
    """The derivative along a direction of the maps equals the difference quotient."""
    network = built(FACTORIES[name])
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = {key: tensor.double() for key, tensor in network.state_dict().items()}
    parameters = {key for key, _ in network.named_parameters()}
    start = random_maps(symmetry)
    directions = random_maps(symmetry, 3.0)

    def value(step: float, maps: Maps = start) -> torch.Tensor:
        moved = map_state(symmetry, tuple(m + step * d for m, d in zip(maps, directions, strict=True)), state)
        return sum((moved[key].square().sum() for key in sorted(parameters)), torch.zeros(()))

    leaves = tuple(matrices.clone().requires_grad_() for matrices in start)
    gradients = torch.autograd.grad(value(0.0, leaves), leaves)
    derivative = sum(float((gradient * d).sum()) for gradient, d in zip(gradients, directions, strict=True))
    quotient = float(value(1e-5) - value(-1e-5)) / 2e-5
    assert derivative == pytest.approx(quotient, rel=1e-6)


def test_given_weights_are_not_changed() -> None:
    """The identity returns equal weights in other memory."""
    network = built(FACTORIES["padded"])
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    mapped = map_state(symmetry, permutation_maps(identity(symmetry)), state)
    assert all(torch.equal(mapped[key], state[key]) for key in state)
    assert not {t.data_ptr() for t in mapped.values()} & {t.data_ptr() for t in state.values()}
