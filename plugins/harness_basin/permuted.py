"""Permuted ensembles (Ainsworth et al. 2023; paper §4)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Weights
from harness_basin.weight_matching import MatchingOptions, WeightMatching


class PermutedEnsemble(EnsembleBuilder):
    """The deep ensemble, every member's hidden units permuted towards the first member's. Accuracy stays what it was."""

    name, version = "permuted", 1
    Options = MatchingOptions

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the first deep member, and the others aligned to it."""
        first, *others = (cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size))
        matching = WeightMatching(self.options)
        return [first, *(aligned for j, other in enumerate(others, 1) for aligned in cell.derive(matching, (first, other), j))]
