"""Deep ensembles (Lakshminarayanan et al. 2017; paper §2)."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Cell, EnsembleBuilder, Weights


def deep_members(cell: Cell) -> list[Weights]:
    """Return the M members of the deep ensemble: independent runs at epoch T."""
    return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]


class DeepEnsemble(EnsembleBuilder):
    """M independent runs with different initializations and batch orders."""

    name, version = "deep", 1

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M runs at epoch T."""
        return deep_members(cell)
