"""Stochastic weight ensembles (paper §3 and appendix B; after Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights


class StochasticWeightEnsemble(EnsembleBuilder):
    """One run whose learning rate comes down the cosine to a floor and stays there; a member every T epochs.

    It is the reference's own run up to the first whole epoch at which the cosine has met the floor: from there on the two
    part.
    """

    name, version = "swe", 1

    class Options(harness.Options):
        """Options of SWE."""

        floor: float = Field(0.01, gt=0, description="learning rate held once the cosine has come down to it (appendix C)")

    def check(self, recipe: Recipe, members: int) -> None:
        """Refuse a floor that the cosine does not come down to."""
        if self.options.floor >= recipe.learning_rate:
            floor, peak = self.options.describe("floor"), recipe.learning_rate
            raise ValueError(f"{floor}; below the peak of the schedule, learning_rate = {peak}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the samples at T, 2T, …, MT."""
        parting = cell.recipe.epoch_at(self.options.floor)
        run = cell.trajectory(member=0).at(parting).fork(learning_rate=self.options.floor)
        return [run.at((j + 1) * cell.epochs) for j in range(cell.size)]
