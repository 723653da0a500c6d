"""Stochastic weight ensembles (paper §3 and appendix B; after Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights, schedules


class StochasticWeightEnsemble(EnsembleBuilder):
    """Samples every T epochs of one run whose learning rate follows the cosine down to a floor and then stays constant.

    The run is the reference's own up to the first whole epoch at which the cosine is at or below the floor.
    """

    name, version = "swe", 1

    class Options(harness.Options):
        """Options of SWE."""

        floor: float = Field(0.01, gt=0, description="constant learning rate after the cosine has reached it (appendix C)")

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a floor that is not below the peak of the schedule."""
        if self.options.floor >= recipe.learning_rate:
            floor = self.options.describe("floor")
            raise ValueError(f"{floor}; below the peak of the schedule, learning_rate = {recipe.learning_rate}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the samples at T, 2T, …, MT."""
        fork_epoch = cell.recipe.epoch_at(self.options.floor)
        run = cell.trajectory(member=0).at(fork_epoch).fork(schedule=schedules.Constant(rate=self.options.floor))
        return [run.at((j + 1) * cell.epochs) for j in range(cell.size)]
