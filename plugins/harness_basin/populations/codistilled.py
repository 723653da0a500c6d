"""Ensembles in one basin whose members distill each other (Zhang et al. 2018; Anil et al. 2018)."""

from __future__ import annotations

from pydantic import Field

from harness_basin.forking import SeparatedForkOptions
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.population import CoupledEnsemble


class CodistilledEnsemble(CoupledEnsemble):
    """M forks of the reference that train on the same batches, each taught by the mean prediction of the others."""

    name, version = "codistilled", 1

    class Options(SeparatedForkOptions):
        """Options of mutual distillation."""

        beta: float = Field(0.2, ge=0, le=1, description="weight of the labels relative to the other members; 1: no teacher")
        temperature: float = Field(3.0, gt=0, description="τ, which divides the logits of all members")

    def coupling(self) -> MutualDistillation:
        """Return the coupling with the method's options."""
        options = self.options
        return MutualDistillation(MutualDistillation.Options(beta=options.beta, temperature=options.temperature))
