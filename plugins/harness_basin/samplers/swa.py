"""Stochastic weight averaging (Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, EnsembleBuilder, PluginChoice, Recipe, Weights
from harness_basin.averages.averaging import UniformSoup
from harness_basin.samplers.weight_averaging import CollectingOptions, MeanOfRun, with_moments


class AveragingOptions(CollectingOptions):
    """The run whose weights are averaged, or the method whose members are."""

    rank: int = Field(0, ge=0, description="deviations that the run keeps, unused here; with swag's, both share one training")
    of: PluginChoice | None = Field(
        None,
        description="average the members of this method instead of a run of its own",
        json_schema_extra={"plugin": "ensemble_builder"},
    )


class StochasticWeightAverage(EnsembleBuilder):
    """One network: the average of one training's weights at the ends of its epochs at a constant rate."""

    name, version = "swa", 1
    Options = AveragingOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a rate or an end that does not fit, or if the other method cannot run."""
        of: EnsembleBuilder | None = self.chosen.get("of")
        if of is None:
            self.options.check(recipe)
        else:
            of.check(recipe, members)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the average, an ensemble of one member."""
        options: AveragingOptions = self.options
        of: EnsembleBuilder | None = self.chosen.get("of")
        if of is None:
            return cell.derive(MeanOfRun(), with_moments(options.checkpoint(cell, options.rank))[:2])
        written = options.of
        own = written[of.name] if isinstance(written, dict) else {}
        return cell.derive(UniformSoup(), cell.build(of.name, **own))
