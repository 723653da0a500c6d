"""Coordinates of the descent: a group of units with the groups inside it, and its best permutations, all others held.

With W_a, W_b the weights of two networks in which the group's units stand, laid out as (units, all else), and W_b's other
axes permuted as they currently are, the objective is ⟨A, P⟩ + constant with the Gram matrix A = Σ W_a W_bᵀ, and the best P is
a linear assignment. Nothing here knows in which order coordinates are visited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness import TaskFailed
from harness_basin.matching.assignment import Assigner, assign
from harness_basin.matching.symmetry import Block, Permutations, Symmetry, moved, unit_map

Grams = dict[int, np.ndarray]
"""Gram matrices by group: (units of a, units of b), numbered through the units of the groups that the group is within."""

Proposal = Callable[[Permutations], Permutations]


@dataclass(frozen=True)
class Pair:
    """Two networks' weights in the blocks that permutations move, and the precision in which they are multiplied."""

    symmetry: Symmetry
    reference: dict[str, Tensor]
    other: dict[str, Tensor]
    dtype: torch.dtype

    def views(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return a block of both networks, one axis per factor."""
        return block.view(self.reference[block.parameter]), block.view(self.other[block.parameter])

    def value(self, blocks: Iterable[Block], permutations: Permutations) -> float:
        """Return ⟨θ_a, π θ_b⟩ over blocks."""
        total = 0.0
        for block in blocks:
            a, b = self.views(block)
            b = moved(self.symmetry, block, b, permutations)
            total += float(torch.dot(a.to(self.dtype).flatten(), b.to(self.dtype).flatten()))
        return _finite(total)


def coordinates(pair: Pair) -> list[Coordinate]:
    """Return one coordinate for every group that is within no other."""
    symmetry = pair.symmetry
    found = []
    for root in (g for g, group in enumerate(symmetry.groups) if not group.within):
        groups = [g for g in range(len(symmetry.groups)) if symmetry.path(g)[0] == root]
        blocks = [b for b in symmetry.blocks if b.counts and root in b.groups]
        coupled = any(len(_innermost(symmetry, block, groups)) > 1 for block in blocks)
        found.append((CoupledCoordinate if coupled else Coordinate)(pair, root, groups, blocks))
    return found


class Coordinate:
    """Groups that are permuted together: a root and what is within it (attention heads and the dimensions in each).

    `neighbors` are the groups whose permutations the best choice here depends on.
    """

    def __init__(self, pair: Pair, root: int, groups: Sequence[int], blocks: Sequence[Block]) -> None:
        self.pair, self.root, self.groups, self.blocks = pair, root, groups, blocks
        self.neighbors = {g for block in blocks for g in block.groups if g is not None} - set(groups)
        self.terms: list[tuple[int, _Term]] = []
        self.grams: Grams = {}
        self.assigner = Assigner()

    def restart(self) -> None:
        """Forget the Gram matrices: another descent begins."""
        self.grams, self.assigner = {}, Assigner()
        for _, term in self.terms:
            term.place = term.gram = None

    def visit(self, permutations: Permutations) -> tuple[float, Permutations]:
        """Return by how much the objective rises, and the permutations with this coordinate's at their best."""
        self._follow(permutations)
        symmetry = self.pair.symmetry
        paths = {g: unit_map(symmetry, permutations, symmetry.path(g)) for g in self.grams}
        before = _finite(sum(_taken(gram, paths[g]) for g, gram in self.grams.items()))
        choice = _choose(symmetry, self.grams, self.root, 0, 0, self.assigner)
        rise = choice.value - before
        rounding = torch.finfo(self.pair.dtype).eps * abs(before)
        return rise if rise > rounding else 0.0, choice.written(permutations)

    def _follow(self, permutations: Permutations) -> None:
        """Bring the Gram matrices up to date with the neighbors' permutations."""
        if not self.terms:
            for block in self.blocks:
                ((group, own),) = _innermost(self.pair.symmetry, block, self.groups)
                self.terms.append((group, _Term(self.pair, block, own)))
        for group, term in self.terms:
            change = term.change(permutations)
            if change is not None and group in self.grams:
                self.grams[group] += change
            elif change is not None:
                self.grams[group] = change.astype(np.float64)


class CoupledCoordinate(Coordinate):
    """Groups that meet in one weight (the two sides of a grouped convolution, rows and columns of a square weight).

    The objective is not linear in them together. Assignments are proposals here, all together (as far as the other weights
    tell, then with those where the groups meet) and one group at a time, and stand where the objective rises.
    """

    def __init__(self, pair: Pair, root: int, groups: Sequence[int], blocks: Sequence[Block]) -> None:
        super().__init__(pair, root, groups, blocks)
        self.neighbors |= set(groups)

    def visit(self, permutations: Permutations) -> tuple[float, Permutations]:
        """Return by how much the objective rises, and the permutations with this coordinate's improved."""
        value = start = self.pair.value(self.blocks, permutations)
        apart = [block for block in self.blocks if len(_innermost(self.pair.symmetry, block, self.groups)) == 1]
        together = [self._together(blocks) for blocks in (apart, self.blocks)]
        for propose in (*together, *(self._alone(group) for group in self.groups)):
            proposal = propose(permutations)
            if (proposed := self.pair.value(self.blocks, proposal)) > value:
                value, permutations = proposed, proposal
        return value - start, permutations

    def _together(self, blocks: Sequence[Block]) -> Proposal:
        def propose(permutations: Permutations) -> Permutations:
            grams: Grams = {}
            for block in blocks:
                for group, own in _innermost(self.pair.symmetry, block, self.groups):
                    grams[group] = grams.get(group, 0) + _gram(self.pair, block, own, permutations)
            return _choose(self.pair.symmetry, grams, self.root, 0, 0).written(permutations)

        return propose

    def _alone(self, group: int) -> Proposal:
        symmetry = self.pair.symmetry
        n, outer = symmetry.groups[group].size, symmetry.groups[group].within
        places = [(b, [*_factors(b, outer), k]) for b in self.blocks for k, g in enumerate(b.groups) if g == group]

        def propose(permutations: Permutations) -> Permutations:
            gram = np.sum([_gram(self.pair, block, own, permutations) for block, own in places], axis=0)
            best = permutations[group].clone()
            for p, u in enumerate(unit_map(symmetry, permutations, outer).tolist()):
                best.view(-1, n)[u] = torch.from_numpy(assign(gram[p * n : (p + 1) * n, u * n : (u + 1) * n]))
            return (*permutations[:group], best, *permutations[group + 1 :])

        return propose


@dataclass(frozen=True)
class _Choice:
    """The best permutation of a group in one unit of its outer groups, and of the groups within it for every pair of units."""

    group: int
    unit: int
    value: float
    permutation: np.ndarray
    inner: Sequence[Sequence[Sequence[_Choice]]]

    def written(self, permutations: Permutations) -> Permutations:
        """Return the permutations with the choice in place."""
        result = [p.clone() for p in permutations]
        self._write(result)
        return tuple(result)

    def _write(self, permutations: list[Tensor]) -> None:
        permutations[self.group].view(-1, len(self.permutation))[self.unit] = torch.from_numpy(self.permutation)
        for table in self.inner:
            for i, j in enumerate(self.permutation):
                table[i][j]._write(permutations)


def _choose(
    symmetry: Symmetry,
    grams: Grams,
    group: int,
    place: int,
    unit: int,
    assign: Callable[[np.ndarray], np.ndarray] = assign,
) -> _Choice:
    """Match a group's units where the outer groups' place and unit are given, and all that is within them."""
    n, path = symmetry.groups[group].size, symmetry.path(group)
    rows, columns = slice(place * n, (place + 1) * n), slice(unit * n, (unit + 1) * n)
    gains = grams[group][rows, columns] if group in grams else np.zeros((n, n))
    inner = []
    for child in (g for g, candidate in enumerate(symmetry.groups) if candidate.within == path):
        table = [[_choose(symmetry, grams, child, place * n + i, unit * n + j) for j in range(n)] for i in range(n)]
        gains = gains + np.array([[choice.value for choice in row] for row in table])
        inner.append(table)
    permutation = assign(gains)
    return _Choice(group, unit, _taken(gains, permutation), permutation, inner)


class _Term:
    """What one block adds to a Gram matrix, kept up to date while the block's other axes are permuted.

    Where one other group (or one chain of nested groups) permutes the block, both networks' weights lie as (its units, rest,
    own units), and only what belongs to units that moved is multiplied anew.
    """

    def __init__(self, pair: Pair, block: Block, own: Sequence[int]) -> None:
        self.pair, self.block, self.own = pair, block, own
        chains = _innermost(pair.symmetry, block, [g for k, g in enumerate(block.groups) if g is not None and k not in own])
        self.partner = pair.symmetry.path(chains[0][0]) if chains else ()
        self.place: Tensor | None = None
        self.gram: np.ndarray | None = None
        self.laid: tuple[Tensor, Tensor] | None = None
        if len(chains) < 2:
            lead = chains[0][1] if chains else []
            rest = [k for k in range(len(block.factors)) if k not in own and k not in lead]
            partners = math.prod(block.factors[k].size for k in lead)
            a, b = (_matrix(view, pair.dtype, [*lead, *rest], own) for view in pair.views(block))
            self.laid = a.unflatten(0, (partners, -1)), b.unflatten(0, (partners, -1))

    def change(self, permutations: Permutations) -> np.ndarray | None:
        """Return by how much the Gram matrix has changed since the last call; None for not at all."""
        if self.laid is None:
            before, self.gram = self.gram, _gram(self.pair, self.block, self.own, permutations)
            return self.gram.copy() if before is None else self.gram - before
        a, b = self.laid
        now = unit_map(self.pair.symmetry, permutations, self.partner)
        old, self.place = self.place, now
        if old is None:
            return _product(a, b.index_select(0, now))
        (differ,) = torch.nonzero(now != old, as_tuple=True)
        if not len(differ):
            return None
        if len(differ) < len(now):
            a = a.index_select(0, differ)
        return _product(a, b.index_select(0, now[differ]).sub_(b.index_select(0, old[differ])))


def _gram(pair: Pair, block: Block, own: Sequence[int], permutations: Permutations) -> np.ndarray:
    """Return a block's Gram matrix over some of its factors, the other ones permuted."""
    a, b = pair.views(block)
    b = moved(pair.symmetry, block, b, permutations, keep=own)
    rest = [k for k in range(len(block.factors)) if k not in own]
    return _product(_matrix(a, pair.dtype, rest, own), _matrix(b, pair.dtype, rest, own)).astype(np.float64)


def _product(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the product (units of a, units of b) over all axes but the last ones."""
    return (a.flatten(0, -2).T @ b.flatten(0, -2)).numpy()


def _matrix(view: Tensor, dtype: torch.dtype, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Return a block as a matrix, contiguous, its factors divided between rows and columns in the order given.

    First the copy, then the conversion: the other way round takes eight times as long.
    """
    shape = [math.prod(view.shape[k] for k in axes) for axes in (rows, columns)]
    return view.permute(*rows, *columns).reshape(shape).contiguous().to(dtype)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise TaskFailed(f"matching: an inner product of the weights is {value}; have the members diverged?")
    return value


def _taken(gains: np.ndarray, permutation: np.ndarray | Tensor) -> float:
    return float(gains[np.arange(len(gains)), np.asarray(permutation)].sum())


def _factors(block: Block, groups: Sequence[int]) -> list[int]:
    return [block.groups.index(g) for g in groups]


def _innermost(symmetry: Symmetry, block: Block, groups: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the innermost of some groups in a block, each with the factors of those it is within and its own."""
    present = [(g, k) for k, g in enumerate(block.groups) if g is not None and g in groups]
    return [
        (group, [*_factors(block, symmetry.groups[group].within), k])
        for group, k in present
        if not any(group in symmetry.groups[other].within for other, _ in present)
    ]
