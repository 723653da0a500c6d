"""Populations whose members exchange a random share of their weights (WASH; Fournier et al. 2024)."""

from __future__ import annotations

from pydantic import Field

from harness_basin.populations.couplings.shuffle import Shuffle
from harness_basin.populations.population import Population, PopulationOptions


class WashEnsemble(Population):
    """M runs that train at the same time; after every step, they exchange their values at a random share of the weights."""

    name, version = "wash", 1

    class Options(PopulationOptions):
        """Options of WASH."""

        p: float = Field(
            0.001,
            ge=0,
            le=1,
            description="share of the weights that are shuffled after each step; the default is remembered, not verified",
        )

    def coupling(self) -> Shuffle:
        """Return the coupling with the method's options."""
        options = self.options
        return Shuffle(Shuffle.Options(p=options.p))
