"""Options of ensembles that fork from the reference: the fork epoch, what a fork inherits, and epochs in own orders."""

from __future__ import annotations

from pydantic import Field

import harness
from harness import Cell, Objective, Recipe, Trajectory, Weights, schedules


class ForkEpochOptions(harness.Options):
    """The epoch up to which all members are the reference."""

    fork_epoch: int | None = Field(
        None, ge=0, description="t, the number of epochs that all members share (Table 5); null: a tenth of T, at least 1"
    )

    def epoch(self, epochs: int) -> int:
        """Return t for runs of T epochs."""
        if self.fork_epoch is None:
            return max(1, epochs // 10)
        return self.fork_epoch

    def trunk(self, cell: Cell) -> Weights:
        """Return the reference model θ₁ at epoch t."""
        return cell.trajectory(member=0).at(self.epoch(cell.epochs))

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if the fork epoch is T or later."""
        fork_epoch = self.epoch(recipe.epochs)
        last = recipe.epochs - 1
        if fork_epoch > last:
            default = " (the default)" if self.fork_epoch is None else ""
            raise ValueError(f"fork_epoch is {fork_epoch}{default}; at most epochs - 1 = {last}")


class ForkOptions(ForkEpochOptions):
    """The fork epoch, and what a forked run inherits from the reference.

    The paper only says that training continues "for T − t epochs" (§3). By default, a run keeps the momentum and the rest of
    the schedule. The reference's own continuation is then the reference.
    """

    inherit_momentum: bool = Field(True, description="keep the optimizer's state at the fork")
    inherit_schedule: bool = Field(True, description="continue the schedule; false: start a new one over T - t epochs")

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


class SeparatedForkOptions(ForkOptions):
    """The fork, and the epochs in which the members part before they share their batches.

    On one stream of batches, members that are equal stay equal: their losses and gradients are. So each member first trains
    for some epochs after the fork as a member of the constrained ensemble, in an order of its own.
    """

    own_epochs: int = Field(
        1, ge=1, description="epochs after the fork in which each member has its own order, alone, so that members differ"
    )

    def members(self, cell: Cell) -> list[Trajectory]:
        """Return the M trainings as they would be without a coupling: one order of batches from epoch t + own_epochs on."""
        trunk = self.trunk(cell)
        shared_from = trunk.epoch + self.own_epochs
        members = []
        for j in range(cell.size):
            parted = self.branch(trunk, j).at(shared_from)
            members.append(parted.fork(order=0))
        return members

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if no epoch is left for the coupling."""
        super().check(recipe)
        fork_epoch = self.epoch(recipe.epochs)
        shared_from, last = fork_epoch + self.own_epochs, recipe.epochs - 1
        if shared_from > last:
            total = f"fork_epoch + own_epochs is {fork_epoch} + {self.own_epochs} = {shared_from}"
            raise ValueError(f"{total}; at most epochs - 1 = {last}")
