"""Constrained ensembles (Frankle et al. 2020; paper §3)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import ForkOptions


class ConstrainedEnsemble(EnsembleBuilder):
    """M runs that share their first t epochs and then use different batch orders. The first member is the reference model."""

    name, version = "constrained", 1
    Options = ForkOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a fork epoch at or beyond T."""
        self.options.check(recipe)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs."""
        trunk = self.options.trunk(cell)
        members = []
        for j in range(cell.size):
            run = self.options.branch(trunk, member=j)
            members.append(run.at(cell.epochs))
        return members
