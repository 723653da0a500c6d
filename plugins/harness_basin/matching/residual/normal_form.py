"""The normal form of networks with a residual stream and LayerNorm: the weights in which the stream can be rotated.

LayerNorm subtracts the mean over the residual stream, divides by the standard deviation, multiplies by γ and adds β. Rotations
of the stream that keep the vector of ones commute with the first two steps only. The normal form has γ = 1 and β = 0 in every
LayerNorm: the linear maps that read its output contain them. Nothing is divided by γ, which may be 0. Everything that writes
to the stream has mean 0 over the stream, which LayerNorm would subtract anyway; so has everything that reads it. Biases that
cancel in the softmax (those of keys) are 0. The function does not change.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import StateDict, TaskFailed, streams
from harness_basin.matching.linear.linear_groups import Normalization
from harness_basin.matching.residual.moves import HeadFactors, float64_copy, head_factor, split_head_factor
from harness_basin.matching.residual.procrustes import balanced_factors
from harness_basin.matching.residual.residual_groups import ResidualGroups, Stream
from harness_basin.matching.symmetry import Block
from harness_basin.matching.verification import functional_difference, random_inputs, random_weights, tensor_leaves
from harness_basin.normal_numbers import normal

TOLERANCE = 1e-9
"""The largest relative change of outputs in float64 that is rounding."""


@dataclass(frozen=True)
class NormalForm:
    """The normal form of a network's weights.

    `idle_biases` are set to 0. `balanced`: the factors of queries and keys, and of values and outputs, have the smallest norms
    that their products allow; factors of equal products are then equal up to an orthogonal map.
    """

    groups: ResidualGroups
    idle_biases: tuple[Block, ...] = ()
    balanced: bool = False

    def of(self, state: StateDict, label: str = "weights") -> StateDict:
        """Return the weights in normal form, in float64.

        Raise `TaskFailed` for weights that are not finite, and for a linear map without bias behind a LayerNorm with a shift.
        The message starts with the label. Raise `Mismatch` for weights of another network.
        """
        result = float64_copy(state)
        _require_finite(self.groups.symmetry.checked(result, label), label)
        for stream in self.groups.streams:
            for normalization in stream.normalizations:
                _fold(normalization, result, label)
            if stream.fixes_ones:
                _center(stream, result)
        for block in self.idle_biases:
            block.view(result[block.parameter]).zero_()
        if self.balanced:
            for heads in self.groups.heads:
                for factors in heads.factors:
                    _balance(factors, result)
        return result


def _require_finite(state: StateDict, label: str) -> None:
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise TaskFailed(f"{label}: '{name}' is not finite; has it diverged?")


def _center(stream: Stream, state: StateDict) -> None:
    """Subtract the mean over the stream from all weights that write to it or read from it."""
    for site in stream.sites:
        view = site.block.view(state[site.block.parameter])
        view -= view.mean(site.axis, keepdim=True)


def _fold(normalization: Normalization, state: StateDict, label: str) -> None:
    """Move the scale and shift of a LayerNorm into the linear maps that read its output: W diag(γ), b + W β."""
    scale = state[normalization.scale]
    shift = torch.zeros_like(scale) if normalization.shift is None else state[normalization.shift]
    for reader in normalization.readers:
        weight = reader.place.block.view(state[reader.place.block.parameter])
        moved = weight.movedim(reader.place.axis, -1)  # a view
        added = moved @ shift
        if reader.bias is not None:
            reader.bias.view(state[reader.bias.parameter]).add_(added)
        elif added.abs().max() > 0:
            name = reader.place.block.parameter
            raise TaskFailed(f"{label}: '{name}' has no bias that could contain the shift '{normalization.shift}'")
        moved *= scale
    scale.fill_(1)
    if normalization.shift is not None:
        shift.zero_()


def _balance(factors: HeadFactors, state: StateDict) -> None:
    """Replace the factors within heads by balanced ones."""
    blocks = [site.block for site in (*factors.direct, *factors.inverse)]
    arrays = {block: block.view(state[block.parameter]) for block in blocks}
    direct, inverse = balanced_factors(head_factor(arrays, factors.direct), head_factor(arrays, factors.inverse))
    split_head_factor(direct, arrays, factors.direct)
    split_head_factor(inverse, arrays, factors.inverse)


def find_idle_biases(network: nn.Module, groups: ResidualGroups, example: Tensor) -> tuple[Block, ...]:
    """Return the biases within heads that do not affect the function: those of keys, which the softmax cancels.

    Their gradients are 0 at random weights, and setting them to 0 there does not change the outputs.
    """
    state = random_weights(network, stream=0)
    slopes = _slopes(network, state, random_inputs(example, 1, stream=0))
    candidates = []
    for heads in groups.heads:
        for factors in heads.factors:
            for site in (*factors.direct, *factors.inverse):
                if len(site.block.factors) == (1 if site.heads is None else 2):
                    candidates.append(site.block)
    sizes = [float(block.view(slopes[block.parameter]).abs().max()) for block in candidates]
    idle = tuple(block for block, size in zip(candidates, sizes) if size <= TOLERANCE * max(sizes))
    without = float64_copy(state)
    for block in idle:
        block.view(without[block.parameter]).zero_()
    if functional_difference(network, state, without, example) > TOLERANCE:
        return ()
    return idle


def _slopes(network: nn.Module, state: StateDict, inputs: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a random combination of the outputs with respect to the weights, in float64."""
    network = copy.deepcopy(network).double().eval()
    network.load_state_dict(state)
    outputs = torch.cat([leaf.flatten() for leaf in tensor_leaves(network(inputs))])
    combination = outputs @ normal(outputs.shape, streams.key("outputs"))
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(combination, parameters, allow_unused=True, materialize_grads=True)
    return {name: gradient.contiguous() for name, gradient in zip(names, gradients)}
