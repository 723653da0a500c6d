"""Derive the scales and matrices of hidden units that keep a network's function, from its permutation symmetry.

The places in which a map may act are those that a permutation group permutes. To first order, a map in several places keeps the
function if the changes that it makes in them cancel. This is a linear system for the powers of the map in the places; its
coefficients are gradients at random weights (`tangents.py`). Every group that is found is then checked with random elements, at
random weights, in float64. A group is not returned unless it passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import streams
from harness_basin.matching.linear.certification import Refusal, certified
from harness_basin.matching.linear.integer_null_space import ROUNDING
from harness_basin.matching.linear.linear_groups import Action, Kind, LinearGroup, Place
from harness_basin.matching.linear.orthogonal_streams import orthogonal_groups
from harness_basin.matching.linear.scale_families import Family, Powers, scale_families, spots_of_groups
from harness_basin.matching.linear.tangents import Gradients, Spot, gradients
from harness_basin.matching.symmetry import Symmetry
from harness_basin.matching.verification import normalized_weights, random_inputs
from harness_basin.normal_numbers import normal

_IMAGES = 4
_LARGEST_NUMBER_OF_COMBINATIONS = 40
_EQUATIONS_PER_UNKNOWN = 2
_PROBES = 2


@dataclass(frozen=True)
class LinearSymmetry:
    """Groups of scales and matrices that keep a network's function, and groups that were found but refused."""

    groups: tuple[LinearGroup, ...]
    refused: tuple[Refusal, ...] = ()

    def of_kind(self, kind: Kind) -> tuple[LinearGroup, ...]:
        """Return the groups of a kind."""
        return tuple(group for group in self.groups if group.kind == kind)

    def count(self, kind: Kind) -> int:
        """Return the number of independent elements of a kind: a group within heads counts once per head."""
        return sum(group.count for group in self.of_kind(kind))

    def __str__(self) -> str:
        """Return one line per group, and one per refused group."""
        return "\n".join(map(str, [*self.groups, *self.refused]))


def derive_linear_groups(network: nn.Module, example: Tensor, symmetry: Symmetry, *, tolerance: float = 1e-9) -> LinearSymmetry:
    """Return the positive scales, and the orthogonal and invertible matrices, that keep the network's function.

    `symmetry` is the network's permutation symmetry, and `example` a batch of inputs on the network's device. Copies of the
    network run in eval mode. Every returned group keeps the outputs at random weights in float64 to the relative tolerance.
    Groups that do not are listed with the reason. Buffers (running statistics) are not moved.
    """
    first_names = _first_names(network)
    spots = spots_of_groups(symmetry, first_names)
    inputs = random_inputs(example, _IMAGES, 0)
    weights = normalized_weights(network, inputs, 0)
    try:
        found = gradients(network, weights, inputs, _number_of_combinations(symmetry, spots))
    except RuntimeError as error:
        reason = f"its gradients cannot be computed: {error}".splitlines()[0]
        return LinearSymmetry((), (Refusal("scale", "the network", reason),))
    families, reasons = scale_families(symmetry, spots, found)
    places = _Places(symmetry, first_names)
    candidates = [places.group("scale", family) for family in families]
    invertible = [family for family in families if _mixes(family, found)]
    candidates += [places.group("invertible", family) for family in invertible]
    streams_found, refused = orthogonal_groups(network, symmetry, spots, families, weights, inputs, places.copies)
    covered = {family.index for family in invertible}
    candidates += [group for group in streams_found if group.index not in covered]
    other_weights = normalized_weights(network, random_inputs(example, _IMAGES, 1), 1)
    kept, failed = certified(network, candidates, other_weights, example, tolerance)
    refused += [Refusal("scale", symmetry.groups[group].name, reason) for group, reason in reasons]
    return LinearSymmetry(tuple(kept), (*refused, *failed))


def _number_of_combinations(symmetry: Symmetry, spots: Sequence[Sequence[Spot]]) -> int:
    """Return the number of combinations of outputs that gives every group more equations than unknowns, within a limit."""
    number = 2
    for group, own in enumerate(spots):
        units = torch.Size(symmetry.shape(group)).numel()
        number = max(number, -(-_EQUATIONS_PER_UNKNOWN * (len(own) + 4) // units))
    return min(number, _LARGEST_NUMBER_OF_COMBINATIONS)


def _first_names(network: nn.Module) -> dict[str, str]:
    """Return the first name of every parameter by its names, of which a tied parameter has several."""
    first: dict[int, str] = {}
    names = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if parameter.is_floating_point():
            names[name] = first.setdefault(id(parameter), name)
    return names


class _Places:
    """Makes groups of families, with the places in all names of tied parameters."""

    def __init__(self, symmetry: Symmetry, first_names: dict[str, str]) -> None:
        self.symmetry = symmetry
        self.names: dict[str, list[str]] = {}
        for name, first in first_names.items():
            self.names.setdefault(first, []).append(name)
        self._blocks: dict[tuple[str, int], list[int]] = {}
        for number, block in enumerate(symmetry.blocks):
            self._blocks.setdefault((block.parameter, block.offset), []).append(number)

    def copies(self, spot: Spot, action: Action) -> list[Place]:
        """Return a place in each name of its parameter."""
        found = []
        for name in self.names[spot.block.parameter]:
            for number in self._blocks[name, spot.block.offset]:
                block = self.symmetry.blocks[number]
                if block.factors == spot.block.factors:
                    found.append(Place(block, spot.axis, action))
        return found

    def group(self, kind: Kind, family: Family) -> LinearGroup:
        """Return the group of maps of a kind that act in the places of a family."""
        places: list[Place] = []
        sign = _sign(family.powers)
        for spot, power in family.powers.items():
            action: Action = "direct"
            if power != sign:
                action = "inverse" if kind == "scale" else "inverse_transposed"
            places += self.copies(spot, action)
        places.sort(key=lambda place: place.action != "direct")
        group = self.symmetry.groups[family.index]
        outer = self.symmetry.shape(family.index)[:-1]
        return LinearGroup(kind, str(places[0]), group.size, tuple(places), family.index, group.within, outer)


def _sign(powers: Powers) -> int:
    """Return the power of the places that are direct: those that write the units, along axis 0 of their parameter."""
    balance = 0
    for spot, power in powers.items():
        writes = spot.block.factors[spot.axis].axis == 0
        balance += power if writes else -power
    if balance == 0:
        return next(iter(powers.values()))
    return 1 if balance > 0 else -1


def _mixes(family: Family, found: Gradients) -> bool:
    """Return whether all matrices in the places of a family keep the outputs to first order, not only diagonal ones.

    The sum of G in the direct places and -Gᵀ in the others has to vanish. Random vectors tell.
    """
    spots = list(family.powers)
    size = spots[0].block.factors[spots[0].axis].size
    for probe in range(_PROBES):
        left = normal((size,), streams.key("left", probe))
        right = normal((size,), streams.key("right", probe))
        total = torch.zeros(())
        magnitude = torch.zeros(())
        for spot, power in family.powers.items():
            vectors = (left, right) if power > 0 else (right, left)
            value, terms = found.mixing(spot, *vectors)
            total = total + power * value
            magnitude = magnitude + terms
        if total.abs().max() > ROUNDING * magnitude.max():
            return False
    return True
