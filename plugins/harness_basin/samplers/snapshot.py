"""Snapshot ensembles (Huang et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights, schedules


class SnapshotOptions(harness.Options):
    """The length of a cycle, and the learning rate at which it begins."""

    cycle: int | None = Field(
        None,
        ge=1,
        description="c, the epochs of a cycle: a divisor or a multiple of T; null: T/M rounded down, the source's",
    )
    peak: float | None = Field(None, gt=0, description="learning rate at which later cycles begin; null: the recipe's")

    def length(self, epochs: int, members: int) -> int:
        """Return c for T epochs and M members."""
        return self.cycle or epochs // members


class SnapshotEnsemble(EnsembleBuilder):
    """Checkpoints at the ends of the cosine cycles of one training, whose learning rate restarts after each.

    The first cycle is the recipe's schedule, fitted into c epochs: its warm-up happens once. With M = 1 and c = T this is the
    reference model.
    """

    name, version = "snapshot", 1
    Options = SnapshotOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a cycle that does not fit T."""
        options: SnapshotOptions = self.options
        if options.cycle is None:
            if recipe.epochs < members:
                raise ValueError(f"cycle is null: T/M = {recipe.epochs}/{members} epochs; at least 1, so set a cycle")
        elif recipe.epochs % options.cycle and options.cycle % recipe.epochs:
            raise ValueError(f"{options.describe('cycle')}; a divisor or a multiple of epochs = {recipe.epochs}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the checkpoints at c, 2c, …, Mc."""
        options: SnapshotOptions = self.options
        cycle = options.length(cell.epochs, cell.size)
        peak = options.peak or cell.recipe.learning_rate
        first = cell.trajectory(member=0, schedule=schedules.WarmupCosine.of(cell.recipe, cycle)).at(cycle)
        run = first.fork(schedule=schedules.CyclicCosine(peak=peak, cycle=cycle))
        return [first, *(run.at(number * cycle) for number in range(2, cell.size + 1))]
