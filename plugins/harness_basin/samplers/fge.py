"""Fast geometric ensembles (Garipov et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights, schedules

_START = 0.8
"""Share of T after which the cycles begin: the source's 160 of 200 epochs."""

_HIGH, _LOW = 0.5, 0.1
"""Default rates, relative to the recipe's: 0.05 and 0.01 of a peak of 0.1 are the source's for residual networks."""


class FastGeometricOptions(harness.Options):
    """When the cycles begin, how long they are, and between which rates."""

    start: int | None = Field(None, ge=0, description="epoch at which the cycles begin; null: four fifths of T")
    cycle: int = Field(2, ge=2, multiple_of=2, description="c, the epochs of one cycle; even, since members are at mid-cycle")
    high: float | None = Field(
        None, gt=0, description="learning rate at the ends of a cycle (the source's α1); null: half of the recipe's"
    )
    low: float | None = Field(None, gt=0, description="learning rate at mid-cycle (α2); null: a tenth of the recipe's")

    def first_epoch(self, epochs: int) -> int:
        """Return the epoch at which the cycles begin, for T epochs."""
        if self.start is None:
            return round(_START * epochs)
        return self.start

    def rates(self, peak: float) -> tuple[float, float]:
        """Return the highest and the lowest rate, for the peak of the recipe's schedule."""
        return self.high or _HIGH * peak, self.low or _LOW * peak


class FastGeometricEnsemble(EnsembleBuilder):
    """Checkpoints at the lowest rates of short cycles, with a rate that goes up and down along straight lines.

    Up to the first cycle, the training is the reference model's.
    """

    name, version = "fge", 1
    Options = FastGeometricOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a start after T, and for rates in the wrong order or above the recipe's."""
        options: FastGeometricOptions = self.options
        if options.first_epoch(recipe.epochs) > recipe.epochs:
            raise ValueError(f"{options.describe('start')}; at most epochs = {recipe.epochs}")
        high, low = options.rates(recipe.learning_rate)
        if high > recipe.learning_rate:
            raise ValueError(f"high is {high:g}; at most learning_rate = {recipe.learning_rate:g}")
        if low > high:
            raise ValueError(f"low is {low:g}; at most high = {high:g}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the checkpoints at the middle of each of M cycles."""
        options: FastGeometricOptions = self.options
        start = options.first_epoch(cell.epochs)
        high, low = options.rates(cell.recipe.learning_rate)
        schedule = schedules.Triangular(high=high, low=low, cycle=options.cycle)
        run = cell.trajectory(member=0).at(start).fork(schedule=schedule)
        middle = start + options.cycle // 2
        return [run.at(middle + number * options.cycle) for number in range(cell.size)]
