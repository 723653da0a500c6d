"""Distilled ensembles (paper §4, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from harness import Cell, EnsembleBuilder, PluginChoice, Recipe, UserError, Weights
from harness_basin.deep import deep_members
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.forking import ForkOptions

Pairing = Literal["own", "next"]


def check_pairing(options: Any, members: int) -> None:
    """Raise `ValueError` if the teacher is the next deep member but there is only one member."""
    if options.teacher == "next" and members < 2:
        raise ValueError(f"{options.describe('teacher')}; at least 2 members, not {members}")


def check_teachers(teachers: Sequence[Weights], method: str, cell: Cell) -> None:
    """Raise `UserError` unless there are M teachers of the cell's data set."""
    if len(teachers) != cell.size:
        raise UserError(f"teachers: {method} has {len(teachers)} members; members is {cell.size}, and each needs a teacher")
    own = cell.setting.dataset
    for teacher in teachers:
        other = teacher.setting.dataset
        if other.identity != own.identity:
            otherwise = " with other options or another version" if other.full_name == own.full_name else ""
            raise UserError(f"teachers: {method} is trained on {other.full_name}; the data set is {own.full_name}{otherwise}")


class DistilledOptions(ForkOptions, DistillationOptions):
    """Options of distilled ensembles: the fork, Eq. 1, and the teachers."""

    teacher: Pairing = Field(
        "own",
        description="teacher of member j: deep member j (own, the paper's θ₁→j) or deep member j + 1 (next, cyclic)",
    )
    teachers: PluginChoice = Field(
        "deep",
        description="the method whose members are the teachers, instead of deep, with its options or without",
        json_schema_extra={"plugin": "ensemble_builder"},
    )


class DistilledEnsemble(EnsembleBuilder):
    """M runs that fork from the reference model at epoch t. Each is distilled from a deep member of another basin.

    With teachers of another method, such as `constrained`, these lie where that method's members do.
    """

    name, version = "distilled", 1
    Options = DistilledOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a fork epoch at or beyond T, a next teacher that does not exist, or bad teachers."""
        self.options.check(recipe)
        check_pairing(self.options, members)
        teachers: EnsembleBuilder | None = self.chosen.get("teachers")
        if teachers is None:
            return
        try:
            teachers.check(recipe, members)
        except ValueError as error:
            raise ValueError(f"teachers: {teachers.full_name}: {error}") from None

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs, distilled from the teachers."""
        trunk = self.options.trunk(cell)
        shift = int(self.options.teacher == "next")
        objective = Distillation(self.options.distillation())
        teachers = self._teachers(cell)
        members = []
        for j in range(cell.size):
            teacher = teachers[(j + shift) % cell.size]
            run = self.options.branch(trunk, j, objective, teacher=teacher)
            members.append(run.at(cell.epochs))
        return members

    def _teachers(self, cell: Cell) -> Sequence[Weights]:
        """Return the members of the method that teaches. Raise `UserError` if they do not fit."""
        written = self.options.teachers
        if written == "deep":
            return deep_members(cell)
        method, options = written, {}
        if not isinstance(written, str):
            ((method, options),) = written.items()
        teachers = cell.build(method, **options)
        check_teachers(teachers, method, cell)
        return teachers
