"""Distilled ensembles (paper §4, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.deep import deep_members
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.forking import ForkOptions

Pairing = Literal["own", "next"]


def check_pairing(options: Any, members: int) -> None:
    """Raise `ValueError` if the teacher is the next deep member but there is only one member."""
    if options.teacher == "next" and members < 2:
        raise ValueError(f"{options.describe('teacher')}; at least 2 members, not {members}")


class DistilledOptions(ForkOptions, DistillationOptions):
    """Options of distilled ensembles: the fork, Eq. 1, and the teachers."""

    teacher: Pairing = Field(
        "own",
        description="teacher of member j: deep member j (own, the paper's θ₁→j) or deep member j + 1 (next, cyclic)",
    )


class DistilledEnsemble(EnsembleBuilder):
    """M runs that fork from the reference model at epoch t. Each is distilled from a deep member of another basin."""

    name, version = "distilled", 1
    Options = DistilledOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a fork epoch at or beyond T, or for a next teacher that does not exist."""
        self.options.check(recipe)
        check_pairing(self.options, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs, distilled from the deep ensemble."""
        trunk = self.options.trunk(cell)
        shift = int(self.options.teacher == "next")
        objective = Distillation(self.options.distillation())
        deep = deep_members(cell)
        members = []
        for j in range(cell.size):
            teacher = deep[(j + shift) % cell.size]
            run = self.options.branch(trunk, j, objective, teacher=teacher)
            members.append(run.at(cell.epochs))
        return members
