"""Populations whose members are pulled towards their mean (PAPA; Jolicoeur-Martineau et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, Dataset, EnsembleBuilder, Recipe, Weights
from harness_basin.own_recipes import check_changed_images
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.population import PopulationOptions, require_several


class PapaEnsemble(EnsembleBuilder):
    """M runs that train at the same time; every few steps, each is pulled towards the mean of all."""

    name, version = "papa", 1

    class Options(PopulationOptions):
        """Options of PAPA."""

        alpha: float = Field(0.99, ge=0, le=1, description="share of a member's own weights, at the peak rate; 1: no pull")
        every: int = Field(10, ge=1, description="number of steps from one pull to the next")

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for one member, and for recipes that do not fit."""
        require_several(members, self.name)
        self.options.check(recipe)

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` for changes of crops that do not fit the images."""
        super().check_dataset(dataset, recipe)
        check_changed_images(dataset, recipe, self.options.recipes)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M runs at epoch T."""
        options = self.options
        pull = Pull(Pull.Options(alpha=options.alpha, every=options.every))
        return cell.couple(options.members(cell), pull).at(cell.epochs)
