"""Permuted ensembles (Ainsworth et al. 2023; paper §4)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Weights
from harness_basin.alignments import MatchingOptions, WeightMatching
from harness_basin.deep import deep_members


class PermutedEnsemble(EnsembleBuilder):
    """The deep ensemble, with every member's hidden units permuted to align its weights with the first member's.

    Predictions do not change.
    """

    name, version = "permuted", 1
    Options = MatchingOptions

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the first deep member unchanged, and the others aligned to it."""
        first, *others = deep_members(cell)
        matching = WeightMatching(self.options)
        members: list[Weights] = [first]
        for j, other in enumerate(others, start=1):
            members += cell.derive(matching, (first, other), j)
        return members
