"""Soft maps: a doubly stochastic matrix in place of every permutation. Unlike permutations they change a network's function.

Maps are a tuple with one tensor per group. Row i of a map says of which units of the given weights the unit at position i is
mixed. As with permutations, a group within other groups has one map per unit of the outer groups of the given weights, shape
(*outer sizes, size, size), and is mapped first: a soft map of heads mixes what the soft maps of the dimensions within each
head have made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness import StateDict
from harness_basin.matching.symmetry import Block, Permutations, Symmetry, block_axes

Maps = tuple[Tensor, ...]


def permutation_maps(permutations: Permutations, dtype: torch.dtype = torch.float64) -> Maps:
    """Return the matrices of permutations, (*outer sizes, size, size) per group."""
    return tuple(F.one_hot(permutation, permutation.shape[-1]).to(dtype) for permutation in permutations)


def round_maps(scores: Sequence[Tensor]) -> Permutations:
    """Return the permutations p that maximize Σ_i scores[…, i, p[i]], one linear assignment problem per matrix."""
    found = []
    for matrices in scores:
        size = matrices.shape[-1]
        rows = []
        for matrix in matrices.detach().reshape(-1, size, size).numpy():
            rows.append(torch.from_numpy(linear_sum_assignment(matrix, maximize=True)[1]))
        found.append(torch.stack(rows).reshape(matrices.shape[:-1]))
    return tuple(found)


def map_block(symmetry: Symmetry, block: Block, view: Tensor, maps: Maps, keep: Sequence[int] = ()) -> Tensor:
    """Return a block with mapped units. `view` has one axis per factor of the block; the factors in `keep` stay.

    It is differentiable in the view and in the maps.
    """
    innermost_first = []
    for axis, group in enumerate(block.groups):
        if group is not None and axis not in keep:
            innermost_first.append((axis, group))
    innermost_first.sort(key=lambda item: -len(symmetry.groups[item[1]].within))
    axes = list(range(view.dim()))
    position = view.dim()
    for axis, group in innermost_first:
        outer_axes = block_axes(block, symmetry.groups[group].within)
        mapped = [*axes[:axis], position, *axes[axis + 1 :]]
        view = torch.einsum(maps[group].to(view), [*outer_axes, position, axis], view, axes, mapped)
    return view


def map_state(symmetry: Symmetry, maps: Maps, state: StateDict) -> StateDict:
    """Return new weights with mapped units, differentiable in the maps. Buffers are mapped without gradients.

    Raise `Mismatch` for weights of another network.
    """
    result = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    given = symmetry.checked(state)
    constant = tuple(matrices.detach() for matrices in maps)
    for block in symmetry.blocks:
        chosen = maps if block.counts else constant
        mapped = map_block(symmetry, block, block.view(given[block.parameter]), chosen)
        block.view(result[block.parameter]).copy_(mapped)
    return result
