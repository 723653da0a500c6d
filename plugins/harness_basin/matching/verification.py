"""Check in float64 that a network computes the same function with permuted weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness import StateDict, streams
from harness_basin.matching.errors import SymmetryViolated
from harness_basin.matching.symmetry import Symmetry, permute, random_permutations
from harness_basin.normal_numbers import normal

_ROUNDING_FACTOR = 100
"""Largest accepted ratio of the outputs' difference to the difference that a change of the weights by 2⁻⁵² makes."""

_LARGEST_ROUNDING = 1e-4
"""Largest difference that is accepted as rounding."""


def functional_difference(network: nn.Module, state: StateDict, permuted_state: StateDict, images: Tensor) -> float:
    """Return max |f(x) - f_π(x)| / max |f(x)| over images (batch, channels, height, width), computed in float64."""
    before = _outputs(network, state, images)
    after = _outputs(network, permuted_state, images)
    return float((before - after).abs().max() / before.abs().max().clamp_min(1e-300))


def _outputs(network: nn.Module, state: StateDict, images: Tensor) -> Tensor:
    """Return all outputs, flattened and concatenated.

    This uses a copy of the network, because a network may store values that it computed from its weights.
    """
    network = copy.deepcopy(network).to(images.device, torch.float64).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        outputs = network(images.double())
    return torch.cat([leaf.double().flatten() for leaf in tensor_leaves(outputs)])


def tensor_leaves(tree: Any) -> list[Tensor]:
    """Return the tensors in nested containers."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def verify(network: nn.Module, symmetry: Symmetry, example: Tensor, *, stream: int = 0, tolerance: float = 1e-9) -> float:
    """Return the relative difference of the outputs between random weights and the same weights with permuted units.

    The input is random and has the shape of one example. The weights are the network's with noise, so that no two scales of 1
    or biases of 0 are equal. Raise `SymmetryViolated` if the difference exceeds the tolerance.
    """
    state = random_weights(network, stream)
    permuted = permute(symmetry, random_permutations(symmetry, stream), state)
    difference, rounding = change_of_outputs(network, state, permuted, random_inputs(example, 1, stream), tolerance)
    if not difference <= rounding:
        raise SymmetryViolated(
            f"permuting hidden units changes the outputs by {difference:.1e}, relative, in float64; at most {rounding:.0e} is "
            "rounding: a rule is wrong, or the network is not a function of its input alone, or computes in lower precision"
        )
    return difference


def change_of_outputs(
    network: nn.Module, before: StateDict, after: StateDict, inputs: Tensor, tolerance: float
) -> tuple[float, float]:
    """Return the relative difference of the outputs between two states, and the largest one that is accepted as rounding.

    The latter is the tolerance, or more for a network that amplifies rounding errors.
    """
    difference = functional_difference(network, before, after, inputs)
    if difference > tolerance:
        rounding = functional_difference(network, before, _nudged(before), inputs)
        tolerance = max(tolerance, min(_ROUNDING_FACTOR * rounding, _LARGEST_ROUNDING))
    return difference, tolerance


def random_weights(network: nn.Module, stream: int) -> StateDict:
    """Return a network's weights in float64 with noise from a stream."""
    return _noisy(network.state_dict(), stream)


def normalized_weights(network: nn.Module, inputs: Tensor, stream: int) -> StateDict:
    """Return a network's weights in float64 with noise of a tenth of their standard deviation, and new running statistics.

    A tensor with equal values gets noise of 0.1. Activations keep the sizes for which the network is made, so that the effect
    of no weight disappears in rounding errors. BatchNorm gets the statistics of the inputs (a batch), with noise as well: exact
    ones would cancel the shift of the layer before.
    """
    state = {}
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            values = tensor.double()
            spread = values.std(correction=0) or 1.0
            noise = normal(tensor.shape, streams.key("normalized", stream, name)).to(tensor.device)
            state[name] = values + 0.1 * spread * torch.where((values >= 0).all(), noise.abs(), noise)
        else:
            state[name] = tensor
    network = copy.deepcopy(network).to(inputs.device, torch.float64).eval()
    network.load_state_dict(state)
    norms = dict(_with_statistics(network))
    for module in norms.values():
        module.train()
        module.momentum = 1.0
    with torch.no_grad():
        network(inputs)
        for name, module in norms.items():
            assert module.running_mean is not None
            assert module.running_var is not None
            noise = normal((2, *module.running_mean.shape), streams.key("statistics", stream, name)).to(inputs.device)
            module.running_mean += 0.3 * noise[0] * module.running_var.sqrt()
            module.running_var *= torch.exp(0.3 * noise[1])
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _with_statistics(network: nn.Module) -> Iterator[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    """Yield the layers of BatchNorm that have running statistics, with their names."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            yield name, module


def random_inputs(example: Tensor, number: int, stream: int) -> Tensor:
    """Return random float64 inputs of the shape of an example, on its device."""
    shape = torch.Size((number, *example.shape[1:]))
    return normal(shape, streams.key("verify", stream, "inputs")).to(example.device)


def _nudged(state: StateDict) -> StateDict:
    """Return weights that differ from the given ones by one unit in the last place of a float64."""
    result = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            result[name] = tensor * (1 + 2**-52)
        else:
            result[name] = tensor
    return result


def _noisy(state: StateDict, stream: int) -> StateDict:
    """Return float64 weights with added noise. Tensors without negative values (variances) stay nonnegative."""
    result = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            noise = normal(tensor.shape, streams.key("verify", stream, name)).to(tensor.device) * 0.1
            result[name] = tensor.double() + torch.where((tensor >= 0).all(), noise.abs(), noise)
        else:
            result[name] = tensor
    return result
