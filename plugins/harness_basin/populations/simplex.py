"""Simplexes of networks that are trained at random mixtures (Wortsman et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Weights, schedules
from harness_basin.populations.couplings.mixture import Mixture


class SimplexEnsemble(EnsembleBuilder):
    """The M vertices of a simplex in weight space, of which a random point is trained on every batch; a line if M is 2.

    The vertices have initializations of their own, and one order of batches.
    """

    name, version = "simplex", 1

    class Options(harness.Options):
        """Options of simplexes."""

        beta: float = Field(1.0, ge=0, description="weight of the penalty on the squared cosine of a random pair of vertices")
        concentration: float = Field(1.0, gt=0, description="of the Dirichlet distribution of the points; 1: uniform")
        epochs: int | None = Field(None, ge=1, description="epochs of the training; null: T. M * T is the budget of deep")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M vertices at the end of the training."""
        options = self.options
        epochs = options.epochs or cell.epochs
        vertices = [self._vertex(cell, j, epochs) for j in range(cell.size)]
        mixture = Mixture(Mixture.Options(beta=options.beta, concentration=options.concentration))
        return cell.couple(vertices, mixture).at(epochs)

    def _vertex(self, cell: Cell, member: int, epochs: int) -> harness.Trajectory:
        """Return the training from the initialization of a member with the order of member 0."""
        schedule = schedules.WarmupCosine.of(cell.recipe, epochs)
        start = cell.trajectory(member=member, schedule=schedule).at(0)
        return start.fork(order=0)
