"""Ensembles in one basin whose members are pushed apart in their predictions."""

from __future__ import annotations

from pydantic import Field

from harness_basin.forking import SeparatedForkOptions
from harness_basin.populations.couplings.repulsion import Diversity, Repulsion
from harness_basin.populations.population import CoupledEnsemble


class RepelledEnsemble(CoupledEnsemble):
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

    def coupling(self) -> Repulsion:
        """Return the coupling with the method's options."""
        options = self.options
        return Repulsion(Repulsion.Options(strength=options.strength, diversity=options.diversity))
