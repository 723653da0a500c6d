"""What constrained and distilled ensembles have in common: a fork epoch, and what a fork inherits."""

from __future__ import annotations

from pydantic import Field

import harness
from harness import Cell, Checkpoint, Objective, Recipe, Trajectory, Weights


class ForkOptions(harness.Options):
    """Where runs part, and what they take along.

    The paper continues training "for T − t epochs" (§3) and says no more: by default a run keeps its momentum and the rest
    of its schedule, so that the reference's own continuation is the reference.
    """

    fork_epoch: int | None = Field(
        None, ge=0, description="t, the epochs that all members share (Table 5); null: a tenth of T, at least 1"
    )
    inherit_momentum: bool = Field(True, description="keep the optimizer's memory at the fork")
    inherit_schedule: bool = Field(True, description="go on with the rest of the schedule; false: a new one over T - t epochs")

    def epoch(self, epochs: int) -> int:
        """Return t for trainings of T epochs."""
        return max(1, epochs // 10) if self.fork_epoch is None else self.fork_epoch

    def trunk(self, cell: Cell) -> Checkpoint:
        """Return θ₁ at t: the reference model's own first epochs."""
        return cell.trajectory(member=0).at(self.epoch(cell.epochs))

    def branch(
        self, trunk: Checkpoint, member: int, objective: Objective | None = None, teacher: Weights | None = None
    ) -> Trajectory:
        """Return the run that leaves the trunk with member j's order of batches."""
        return trunk.fork(
            order=member,
            objective=objective,
            teacher=teacher,
            restart_schedule=not self.inherit_schedule,
            fresh_optimizer=not self.inherit_momentum,
        )

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if the runs would never part."""
        fork_epoch, last = self.epoch(recipe.epochs), recipe.epochs - 1
        if fork_epoch > last:
            default = " (the default)" if self.fork_epoch is None else ""
            raise ValueError(f"fork_epoch is {fork_epoch}{default}; at most epochs - 1 = {last}")
