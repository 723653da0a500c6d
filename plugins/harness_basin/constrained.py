"""Constrained ensembles (Frankle et al. 2020; paper §3)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import ForkOptions


class ConstrainedEnsemble(EnsembleBuilder):
    """Runs that share their first t epochs and then see different batches. The first is the reference itself."""

    name, version = "constrained", 1
    Options = ForkOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Refuse a fork at or beyond T."""
        self.options.check(recipe)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs."""
        trunk = self.options.trunk(cell)
        return [self.options.branch(trunk, j).at(cell.epochs) for j in range(cell.size)]
