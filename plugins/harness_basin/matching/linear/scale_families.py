"""Find the places in which the units of a permutation group may be scaled together without changing the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness_basin.matching.linear.integer_null_space import Matrix, effective, integer_null_space, sizes_of_unknowns, unclear
from harness_basin.matching.linear.tangents import Gradients, Spot
from harness_basin.matching.symmetry import Block, Symmetry

Powers = Mapping[Spot, int]
"""The power of a unit's factor by which each place is multiplied: 1 or -1."""


@dataclass(frozen=True)
class Family:
    """Places in which the units of a permutation group may be scaled together."""

    index: int
    powers: Powers


def spots_of_groups(symmetry: Symmetry, parameters: Mapping[str, str]) -> list[list[Spot]]:
    """Return the places of each permutation group. `parameters` has the first name of every parameter by its names."""
    found: list[list[Spot]] = [[] for _ in symmetry.groups]
    for block in symmetry.blocks:
        if parameters.get(block.parameter) != block.parameter:
            continue
        for axis, group in enumerate(block.groups):
            if group is not None:
                found[group].append(Spot.of(block, axis, symmetry.groups[group].within))
    return found


def scale_families(
    symmetry: Symmetry, spots: Sequence[Sequence[Spot]], found: Gradients
) -> tuple[list[Family], list[tuple[int, str]]]:
    """Return the families of all permutation groups, and reasons why a permutation group may have more.

    Families of a group that contains others (heads) are left out if families of the inner groups imply them.
    """
    families: list[Family] = []
    reasons = []
    innermost_first = sorted(range(len(symmetry.groups)), key=lambda g: -len(symmetry.groups[g].within))
    for group in innermost_first:
        equations, terms = _equations(spots[group], found)
        sizes = sizes_of_unknowns(terms)
        if unclear(sizes):
            reasons.append((group, "the effects of its weights differ so much in size that some may be rounding errors"))
            continue
        solutions = _solutions(spots[group], equations, terms, effective(sizes))
        implied = [family.powers for family in families if group in symmetry.groups[family.index].within]
        for powers in _independent(spots[group], solutions, implied):
            if max(map(abs, powers.values())) == 1:
                families.append(Family(group, powers))
            else:
                reasons.append((group, "a factor would enter with a power other than 1 or -1"))
    families.sort(key=lambda family: family.index)
    return families, reasons


def _equations(spots: Sequence[Spot], found: Gradients) -> tuple[Matrix, Matrix]:
    """Return the changes of the outputs by each unit in each place, (units × combinations, places), and their terms' sizes."""
    if not spots:
        return np.zeros((0, 0)), np.zeros((0, 0))
    changes = []
    magnitudes = []
    for spot in spots:
        change, magnitude = found.changes(spot)
        changes.append(change)
        magnitudes.append(magnitude)
    return torch.stack(changes, 1).cpu().numpy(), torch.stack(magnitudes, 1).cpu().numpy()


def _solutions(spots: Sequence[Spot], equations: Matrix, terms: Matrix, has_effect: NDArray[np.bool_]) -> list[Powers]:
    """Return a basis of the powers that keep the outputs to first order, for every unit."""
    numbers = np.flatnonzero(has_effect)
    ineffective = [spots[number] for number in np.flatnonzero(~has_effect).tolist()]
    solutions: list[Powers] = []
    for vector in integer_null_space(equations[:, numbers], terms[:, numbers]):
        powers = {spots[number]: int(power) for number, power in zip(numbers.tolist(), vector, strict=True) if power}
        solutions.append({**powers, **_with_their_weights(ineffective, powers)})
    return solutions


def _with_their_weights(biases: Sequence[Spot], powers: Powers) -> Powers:
    """Return the powers of biases without effect on the outputs (of attention keys): those of their weights.

    Such a bias may take any power. With this one, it stays the bias of the same layer.
    """
    found = {}
    for spot, power in powers.items():
        bias = bias_of(spot.block)
        for candidate in biases:
            if (candidate.block.parameter, _first_unit(candidate.block)) == bias and spot.axis == candidate.axis:
                found[candidate] = power
    return found


def bias_of(weight: Block) -> tuple[str, int] | None:
    """Return the name of a weight's bias, and the first of the bias's elements that belong to the block; None without weight.

    A bias has the name of its weight, with `bias` in the place of `weight` at the end.
    """
    first = _first_unit(weight)
    if first is None or not weight.parameter.endswith("weight"):
        return None
    return weight.parameter.removesuffix("weight") + "bias", first


def _first_unit(block: Block) -> int | None:
    """Return the position along axis 0 at which a block starts; None for a block at a single position."""
    strides = [factor.stride for factor in block.factors if factor.axis == 0]
    if not strides:
        return None
    return block.offset // strides[-1]


def _independent(spots: Sequence[Spot], solutions: Sequence[Powers], implied: Sequence[Powers]) -> list[Powers]:
    """Return the solutions that are not combinations of the implied ones, which are given by the same blocks."""
    blocks = [spot.block for spot in spots]
    rows = [_row(blocks, powers) for powers in implied]
    rank = _rank(rows)
    kept = []
    for powers in solutions:
        rows.append(_row(blocks, powers))
        if _rank(rows) > rank:
            rank += 1
            kept.append(powers)
    return kept


def _row(blocks: Sequence[Block], powers: Powers) -> NDArray[np.int64]:
    """Return the powers in the order of the blocks."""
    by_block = {spot.block: power for spot, power in powers.items()}
    return np.array([by_block.get(block, 0) for block in blocks])


def _rank(rows: Sequence[NDArray[np.int64]]) -> int:
    return int(np.linalg.matrix_rank(np.array(rows))) if rows else 0
