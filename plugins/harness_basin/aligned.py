"""Ensembles whose members are aligned by a registered alignment."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Alignment, Cell, EnsembleBuilder, PluginChoice, PluginError, Recipe, UserError, Weights


class AlignedEnsemble(EnsembleBuilder):
    """The deep ensemble, or another method's, aligned by any registered alignment.

    The first member is not moved, except by an alignment that brings all members into a normal form.
    """

    name, version = "aligned", 1

    class Options(harness.Options):
        """Which members, and how they are aligned."""

        by: PluginChoice = Field(
            "weights",
            description="the alignment: weights, joint_weights, or another registered one, with its options or without",
            json_schema_extra={"plugin": "alignment"},
        )
        of: PluginChoice = Field(
            "deep",
            description="the method whose members are aligned, with its options or without",
            json_schema_extra={"plugin": "ensemble_builder"},
        )

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the method whose members are aligned cannot run, or for a number of members of its own."""
        alignment: Alignment = self.chosen["by"]
        if not alignment.keeps_function:
            raise ValueError(
                f"by: with these options {alignment.name} changes the functions of members, which then have no joint "
                "connectivity; use the method fused"
            )
        check_choices(alignment, self.chosen["of"], recipe, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the first member unchanged, and the others aligned: each with the first, or all at once."""
        if "by" not in self.chosen:
            raise PluginError("aligned: made without its alignment; make it with the catalogue")
        return aligned_members(cell, self.chosen["by"], self.chosen["of"], self.options.of)


def check_choices(alignment: Alignment | None, of: EnsembleBuilder, recipe: Recipe, members: int) -> None:
    """Raise `ValueError` if the method whose members are aligned cannot run, or for a single member.

    An alignment with a number of members of its own is refused, too.
    """
    if alignment is not None and alignment.joint and "members" in alignment.options.model_fields_set:
        raise ValueError(f"by: {alignment.options.describe('members')}; leave it out: it is the benchmark's ({members})")
    if alignment is not None and members < 2:
        raise ValueError(f"by: members is {members}; an alignment brings at least 2 close to one another")
    of.check(recipe, members)


def aligned_members(cell: Cell, alignment: Alignment | None, of: EnsembleBuilder, written: PluginChoice) -> Sequence[Weights]:
    """Return another method's members: the first one unchanged, and the others aligned. None: as they are.

    `written` is the option that names the method `of`. Raise `UserError` if it has a single member.
    """
    options = {} if isinstance(written, str) else written[of.name]
    parents = cell.build(of.name, **options)
    if alignment is None:
        return parents
    if len(parents) < 2:
        raise UserError(f"by: {of.full_name} has 1 member; an alignment brings at least 2 close to one another")
    if alignment.joint:
        return cell.derive(alignment.for_members(len(parents)), parents)
    first, *others = parents
    members: list[Weights] = [first]
    for position, other in enumerate(others, start=1):
        members += cell.derive(alignment, (first, other), position)
    return members
