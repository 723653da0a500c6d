"""Ensembles in one basin whose members distill each other (Zhang et al. 2018; Anil et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import SeparatedForkOptions
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.population import require_several


class CodistilledEnsemble(EnsembleBuilder):
    """M forks of the reference that train on the same batches, each taught by the mean prediction of the others."""

    name, version = "codistilled", 1

    class Options(SeparatedForkOptions):
        """Options of mutual distillation."""

        beta: float = Field(0.2, ge=0, le=1, description="weight of the labels relative to the other members; 1: no teacher")
        temperature: float = Field(3.0, gt=0, description="τ, which divides the logits of all members")

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for one member, and if no epoch is left for the coupling."""
        require_several(members, self.name)
        self.options.check(recipe)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M runs at epoch T."""
        options = self.options
        distillation = MutualDistillation(MutualDistillation.Options(beta=options.beta, temperature=options.temperature))
        return cell.couple(options.members(cell), distillation).at(cell.epochs)
