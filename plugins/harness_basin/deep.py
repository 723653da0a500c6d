"""Deep ensembles (Lakshminarayanan et al. 2017; paper §2)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Weights


class DeepEnsemble(EnsembleBuilder):
    """M runs from different initializations with different orders of batches."""

    name, version = "deep", 1

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return every member's own training at T."""
        return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]
