"""Options that constrained and distilled ensembles share: the fork epoch, and what a fork inherits."""

from __future__ import annotations

from pydantic import Field

import harness
from harness import Cell, Objective, Recipe, Trajectory, Weights, schedules


class ForkOptions(harness.Options):
    """The fork epoch, and what a forked run inherits from the reference.

    The paper only says that training continues "for T − t epochs" (§3). By default, a run keeps the momentum and the rest of
    the schedule. The reference's own continuation is then the reference.
    """

    fork_epoch: int | None = Field(
        None, ge=0, description="t, the number of epochs that all members share (Table 5); null: a tenth of T, at least 1"
    )
    inherit_momentum: bool = Field(True, description="keep the optimizer's state at the fork")
    inherit_schedule: bool = Field(True, description="continue the schedule; false: start a new one over T - t epochs")

    def epoch(self, epochs: int) -> int:
        """Return t for runs of T epochs."""
        if self.fork_epoch is None:
            return max(1, epochs // 10)
        return self.fork_epoch

    def trunk(self, cell: Cell) -> Weights:
        """Return the reference model θ₁ at epoch t."""
        return cell.trajectory(member=0).at(self.epoch(cell.epochs))

    def branch(
        self, trunk: Weights, member: int, objective: Objective | None = None, teacher: Weights | None = None
    ) -> Trajectory:
        """Return the run that forks from the trunk and uses a member's batch order."""
        schedule = None
        if not self.inherit_schedule:
            recipe = trunk.setting.recipe
            schedule = schedules.WarmupCosine.of(recipe, recipe.epochs - trunk.epoch)
        return trunk.fork(
            order=member,
            objective=objective,
            teacher=teacher,
            schedule=schedule,
            fresh_optimizer=not self.inherit_momentum,
        )

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if the fork epoch is T or later."""
        fork_epoch = self.epoch(recipe.epochs)
        last = recipe.epochs - 1
        if fork_epoch > last:
            default = " (the default)" if self.fork_epoch is None else ""
            raise ValueError(f"fork_epoch is {fork_epoch}{default}; at most epochs - 1 = {last}")
