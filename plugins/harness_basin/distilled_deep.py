"""Distilled deep ensembles: the control for the regularizing effect of distillation (paper §4 and Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.distilled import Pairing, check_pairing


class DistilledDeepOptions(DistillationOptions):
    """Options of distilled deep ensembles."""

    teacher: Pairing = Field(
        "own",
        description="whom member j learns from: deep member j (own) or deep member j + 1 (next, cyclic)",
    )


class DistilledDeepEnsemble(EnsembleBuilder):
    """M fresh runs from other initializations than the deep ensemble's, each learning from a deep member.

    The paper does not say which teacher a member has, nor where it starts: by default deep member j teaches a fresh member.
    """

    name, version = "distilled_deep", 1
    Options = DistilledDeepOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Refuse another member as teacher where there is none."""
        check_pairing(self.options, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M distilled trainings from scratch; the students are members M, M + 1, … of the seed's streams."""
        shift = int(self.options.teacher == "next")
        objective = Distillation(self.options.distillation())
        deep = [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]
        members = []
        for j in range(cell.size):
            run = cell.trajectory(cell.size + j, objective, teacher=deep[(j + shift) % cell.size])
            members.append(run.at(cell.epochs))
        return members
