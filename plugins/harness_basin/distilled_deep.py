"""Distilled deep ensembles: the control experiment for the regularizing effect of distillation (paper §4 and Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.deep import deep_members
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.distilled import Pairing, check_pairing


class DistilledDeepOptions(DistillationOptions):
    """Options of distilled deep ensembles."""

    teacher: Pairing = Field(
        "own",
        description="teacher of member j: deep member j (own) or deep member j + 1 (next, cyclic)",
    )


class DistilledDeepEnsemble(EnsembleBuilder):
    """M runs with new initializations, each distilled from a deep member.

    The paper specifies neither the teacher of a member nor its initialization. By default, deep member j teaches member j,
    which has another initialization.
    """

    name, version = "distilled_deep", 1
    Options = DistilledDeepOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a next teacher that does not exist."""
        check_pairing(self.options, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M distilled runs from scratch. The students use the random streams of members M, M + 1, …, 2M − 1."""
        shift = int(self.options.teacher == "next")
        objective = Distillation(self.options.distillation())
        deep = deep_members(cell)
        members = []
        for j in range(cell.size):
            teacher = deep[(j + shift) % cell.size]
            run = cell.trajectory(cell.size + j, objective, teacher=teacher)
            members.append(run.at(cell.epochs))
        return members
