"""Populations whose members are pulled towards their mean (PAPA; Jolicoeur-Martineau et al. 2024)."""

from __future__ import annotations

from pydantic import Field

from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.population import Population, PopulationOptions


class PapaEnsemble(Population):
    """M runs that train at the same time; every few steps, each is pulled towards the mean of all."""

    name, version = "papa", 1

    class Options(PopulationOptions):
        """Options of PAPA."""

        alpha: float = Field(0.99, ge=0, le=1, description="share of a member's own weights, at the peak rate; 1: no pull")
        every: int = Field(10, ge=1, description="number of steps from one pull to the next")

    def coupling(self) -> Pull:
        """Return the coupling with the method's options."""
        options = self.options
        return Pull(Pull.Options(alpha=options.alpha, every=options.every))
