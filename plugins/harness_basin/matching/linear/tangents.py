"""How a network's outputs change, to first order, when hidden units are scaled or mixed in one place of its weights.

Let w·f be a random combination of the outputs with gradient ∂(w·f)/∂x for a parameter x. Scaling unit c of x by 1 + ε changes
w·f by ε times the sum of x ∂(w·f)/∂x over the elements of unit c. Multiplying the units by 1 + ε A changes it by ε tr(Gᵀ A)
with G = ∂(w·f)/∂x xᵀ over the units. Maps in several places keep the function to first order if these changes cancel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import StateDict, streams
from harness_basin.matching.symmetry import Block, block_axes
from harness_basin.matching.verification import tensor_leaves
from harness_basin.normal_numbers import normal


@dataclass(frozen=True)
class Spot:
    """An axis of a block that a permutation group permutes: a place where a map may act. `axis` is a factor's number.

    `outer` are the factors of the groups that the group is within.
    """

    block: Block
    axis: int
    outer: tuple[int, ...]

    @classmethod
    def of(cls, block: Block, axis: int, within: Sequence[int]) -> Spot:
        """Return the place of a group that is within the given ones."""
        return cls(block, axis, tuple(block_axes(block, within)))

    def units(self, tensor: Tensor) -> Tensor:
        """Return the block of a parameter as (*outer sizes, size, rest)."""
        axes = [*self.outer, self.axis]
        front = self.block.view(tensor).movedim(axes, list(range(len(axes))))
        return front.reshape(*front.shape[: len(axes)], -1)


@dataclass(frozen=True)
class Gradients:
    """Parameters in float64, and the gradients of random combinations of the outputs. One name per tied parameter."""

    parameters: Mapping[str, Tensor]
    gradients: Sequence[Mapping[str, Tensor]]

    def changes(self, spot: Spot) -> tuple[Tensor, Tensor]:
        """Return the changes from scaling each unit in a place, and the sums of absolute values of their terms.

        Both have the shape (combinations × units of outer groups × size,).
        """
        weights = spot.units(self.parameters[spot.block.parameter])
        sums = []
        magnitudes = []
        for gradient in self.gradients:
            terms = weights * spot.units(gradient[spot.block.parameter])
            sums.append(terms.sum(-1).flatten())
            magnitudes.append(terms.abs().sum(-1).flatten())
        return torch.cat(sums), torch.cat(magnitudes)

    def mixing(self, spot: Spot, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return leftᵀ G right of the first combination, (*outer sizes,), and the sum of the absolute values of its terms.

        The vectors have the shape (size,).
        """
        weights = spot.units(self.parameters[spot.block.parameter])
        gradient = spot.units(self.gradients[0][spot.block.parameter])
        values = (left @ gradient) * (right @ weights)
        sizes = (left.abs() @ gradient.abs()) * (right.abs() @ weights.abs())
        return values.sum(-1), sizes.sum(-1)


def gradients(network: nn.Module, state: StateDict, inputs: Tensor, combinations: int) -> Gradients:
    """Return the gradients of random combinations of the outputs at the given weights, in float64 and in eval mode.

    A parameter that the outputs do not depend on has gradients of 0.
    """
    network = copy.deepcopy(network).to(inputs.device, torch.float64).eval()
    network.load_state_dict(state)
    parameters = dict(network.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(parameter.is_floating_point())
    differentiated = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    with torch.enable_grad():
        leaves = [leaf.flatten() for leaf in tensor_leaves(network(inputs.double())) if leaf.requires_grad]
        outputs = torch.cat(leaves) if leaves else torch.zeros(0, dtype=torch.float64)
        found = []
        for number in range(combinations):
            weights = normal(outputs.shape, streams.key("combination", number)).to(outputs.device)
            # A scalar, because torch would import sympy to compare the shapes of outputs and weights, which takes two seconds.
            found.append(_gradients(outputs @ weights, differentiated))
    constants = {name: parameter.detach().contiguous() for name, parameter in differentiated.items()}
    return Gradients(constants, found)


def _gradients(scalar: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients by name; zeros for parameters without influence."""
    values: Sequence[Tensor | None] = [None] * len(parameters)
    if scalar.requires_grad:
        values = torch.autograd.grad(scalar, list(parameters.values()), retain_graph=True, allow_unused=True)
    found = {}
    for (name, parameter), value in zip(parameters.items(), values, strict=True):
        found[name] = torch.zeros_like(parameter) if value is None else value.contiguous()
    return found
