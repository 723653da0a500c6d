"""Fused networks: one network, the average of aligned members (Singh and Jaggi 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, PluginChoice, PluginError, Recipe, Weights
from harness_basin.aligned import aligned_members, check_choices
from harness_basin.averages.averaging import UniformSoup


class FusedEnsemble(EnsembleBuilder):
    """One network: the average of the deep ensemble's members, or another method's, aligned by any registered alignment.

    It is the ensemble's center, at which alignments that change the members' functions can be compared with others.
    """

    name, version = "fused", 1

    class Options(harness.Options):
        """Which members, and how they are aligned."""

        by: PluginChoice | None = Field(
            "ot",
            description="the alignment, with its options or without, also with soft maps; null: members as they are",
            json_schema_extra={"plugin": "alignment"},
        )
        of: PluginChoice = Field(
            "deep",
            description="the method whose members are averaged, with its options or without",
            json_schema_extra={"plugin": "ensemble_builder"},
        )

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the method whose members are averaged cannot run, or for a number of members of its own."""
        check_choices(self.chosen.get("by"), self.chosen["of"], recipe, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return one handle: the average of the aligned members."""
        if "of" not in self.chosen:
            raise PluginError("fused: made without its alignment; make it with the catalogue")
        members = aligned_members(cell, self.chosen.get("by"), self.chosen["of"], self.options.of)
        return cell.derive(UniformSoup(), members)
