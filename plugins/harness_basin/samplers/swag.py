"""SWAG: samples of a Gaussian around the average of one training's weights (Maddox et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.samplers.weight_averaging import CollectingOptions, GaussianSamples, with_moments

_RANK = 20
"""Default number of deviations, the source's."""


class GaussianOptions(CollectingOptions):
    """The run that the Gaussian is fitted to, and how samples are drawn."""

    rank: int | None = Field(
        None, ge=0, description="K, the last deviations that are kept; null: 20, or all if fewer; 0: variances alone"
    )
    scale: float = Field(0.5, ge=0, description="factor of the covariance; the source has 0.5, and 1 with variances alone")

    def columns(self, recipe: Recipe) -> int:
        """Return K for a recipe."""
        if self.rank is None:
            return min(_RANK, self.collected(recipe))
        return self.rank


class GaussianEnsemble(EnsembleBuilder):
    """M samples of the Gaussian with the mean and the covariance of one training's weights at a constant rate."""

    name, version = "swag", 1
    Options = GaussianOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a rate or an end that does not fit, or a rank above the number of collected epochs."""
        options: GaussianOptions = self.options
        options.check(recipe)
        collected = options.collected(recipe)
        if options.columns(recipe) > collected:
            raise ValueError(f"{options.describe('rank')}; at most {collected}, the epochs at the constant rate")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M samples."""
        options: GaussianOptions = self.options
        columns = options.columns(cell.recipe)
        samples = GaussianSamples(GaussianSamples.Options(members=cell.size, scale=options.scale, low_rank=columns > 0))
        return cell.derive(samples, with_moments(options.checkpoint(cell, columns)))
