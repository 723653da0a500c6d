"""Jointly permuted ensembles: Multi-PCD (paper, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Weights
from harness_basin.alignments import JointWeightMatching
from harness_basin.deep import deep_members


class MultiPermutedEnsemble(EnsembleBuilder):
    """The deep ensemble, with the hidden units of all members permuted jointly to align their weights."""

    name, version = "multi_permuted", 1

    class Options(harness.Options):
        """Options of Multi-PCD."""

        max_sweeps: int = Field(100, ge=1, description="maximum number of sweeps each time a member is matched to the others")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the jointly aligned deep members. The first one is unchanged."""
        deep = deep_members(cell)
        options = JointWeightMatching.Options(members=cell.size, max_sweeps=self.options.max_sweeps)
        return cell.derive(JointWeightMatching(options), deep)
