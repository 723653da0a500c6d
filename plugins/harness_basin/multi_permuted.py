"""Jointly permuted ensembles: Multi-PCD (paper, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Weights
from harness_basin.weight_matching import JointWeightMatching


class MultiPermutedEnsemble(EnsembleBuilder):
    """The deep ensemble, all members permuted towards one another."""

    name, version = "multi_permuted", 1

    class Options(harness.Options):
        """Options of Multi-PCD."""

        max_sweeps: int = Field(100, ge=1, description="largest number of sweeps over the members, and within each match")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return all deep members, jointly aligned."""
        deep = [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]
        matching = JointWeightMatching(JointWeightMatching.Options(members=cell.size, max_sweeps=self.options.max_sweeps))
        return cell.derive(matching, deep)
