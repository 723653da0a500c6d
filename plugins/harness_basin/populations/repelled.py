"""Ensembles in one basin whose members are pushed apart in their predictions."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import SeparatedForkOptions
from harness_basin.populations.couplings.repulsion import Diversity, Repulsion
from harness_basin.populations.population import require_several


class RepelledEnsemble(EnsembleBuilder):
    """M forks of the reference that train on the same batches, and whose loss rewards different predictions.

    A diversity regularizer may cost members more accuracy than the ensemble gains (Abe et al. 2024).
    """

    name, version = "repelled", 1

    class Options(SeparatedForkOptions):
        """Options of the repulsion."""

        strength: float = Field(0.5, ge=0, description="weight of the diversity relative to a member's own loss; 0: none")
        diversity: Diversity = Field(
            "jensen_shannon",
            description="jensen_shannon: mean pairwise divergence; jensen_gap: mean loss minus loss of the mean prediction",
        )

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for one member, and if no epoch is left for the coupling."""
        require_several(members, self.name)
        self.options.check(recipe)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M runs at epoch T."""
        options = self.options
        repulsion = Repulsion(Repulsion.Options(strength=options.strength, diversity=options.diversity))
        return cell.couple(options.members(cell), repulsion).at(cell.epochs)
