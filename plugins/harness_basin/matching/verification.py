"""Checks on the network itself that permuted weights compute the same function, in float64."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness import StateDict, streams
from harness_basin.matching.errors import SymmetryViolated
from harness_basin.matching.symmetry import Symmetry, permute, random_permutations


def functional_difference(network: nn.Module, state: StateDict, permuted_state: StateDict, images: Tensor) -> float:
    """Return max |f(x) - f_π(x)| / max |f(x)| over images (batch, channels, height, width), computed in float64."""
    before, after = _outputs(network, state, images), _outputs(network, permuted_state, images)
    return float((before - after).abs().max() / before.abs().max().clamp_min(1e-300))


def _outputs(network: nn.Module, state: StateDict, images: Tensor) -> Tensor:
    """Return all outputs in one row, of a copy of the network: it may keep things it computed from its weights."""
    network = copy.deepcopy(network).to(images.device, torch.float64).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        leaves = [leaf for leaf in tree_leaves(network(images.double())) if isinstance(leaf, Tensor)]
    return torch.cat([leaf.double().flatten() for leaf in leaves])


def verify(network: nn.Module, symmetry: Symmetry, example: Tensor, *, stream: int = 0, tolerance: float = 1e-9) -> float:
    """Return how far random permutations of random weights move the outputs on a random input of the shape of the examples.

    The weights are the network's with noise, so that scales of 1 and biases of 0 are told apart. Raise `SymmetryViolated`
    where the relative difference exceeds the tolerance.
    """
    state = _noisy(network.state_dict(), stream)
    permuted = permute(symmetry, random_permutations(symmetry, stream), state)
    inputs = _normal(example[:1].shape, streams.key("verify", stream, "inputs")).to(example.device)
    difference = functional_difference(network, state, permuted, inputs)
    if difference > tolerance:  # a network that blows rounding up?
        nudged = {name: t * (1 + 2**-52) if t.is_floating_point() else t for name, t in state.items()}
        tolerance = max(tolerance, min(100 * functional_difference(network, state, nudged, inputs), 1e-4))
    if not difference <= tolerance:
        raise SymmetryViolated(
            f"permuting hidden units changes the outputs by {difference:.1e}, relative, in float64; at most {tolerance:.0e} is "
            "rounding: a rule is wrong, or the network is not a function of its input alone, or computes in lower precision"
        )
    return difference


def _noisy(state: StateDict, stream: int) -> StateDict:
    """Return float64 weights near the given ones, no two alike; what is not negative (a variance) stays so."""
    result = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            noise = _normal(tensor.shape, streams.key("verify", stream, name)).to(tensor.device) * 0.1
            result[name] = tensor.double() + torch.where((tensor >= 0).all(), noise.abs(), noise)
        else:
            result[name] = tensor
    return result


def _normal(shape: torch.Size, key: int) -> Tensor:
    """Return standard normal float64 numbers of a stream (Box and Muller)."""
    n = shape.numel()
    u = streams.uniform(key, torch.arange(2 * n)).double().reshape(2, n)
    return (torch.sqrt(-2 * torch.log1p(-u[0])) * torch.cos(2 * torch.pi * u[1])).reshape(shape)
