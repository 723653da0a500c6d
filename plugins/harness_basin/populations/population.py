"""What populations, whose members train together, have in common: where the members start."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import harness
from harness import Cell, Trajectory


class PopulationOptions(harness.Options):
    """Where the members of a population start."""

    start: Literal["common", "independent"] = Field(
        "common",
        description="common: one initialization for all members, own orders; independent: M initializations",
    )

    def members(self, cell: Cell) -> list[Trajectory]:
        """Return the M trainings as they would be without the coupling: those of `constrained` at epoch 0, or of `deep`."""
        if self.start == "independent":
            return [cell.trajectory(member=j) for j in range(cell.size)]
        common = cell.trajectory(member=0).at(0)
        return [common.fork(order=j) for j in range(cell.size)]


def require_several(members: int, method: str) -> None:
    """Raise `ValueError` for an ensemble of one member, which nothing can be tied to."""
    if members < 2:
        raise ValueError(f"members is {members}; {method} ties at least 2")
