"""Populations whose members exchange a random share of their weights (WASH; Fournier et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness import Cell, Dataset, EnsembleBuilder, Recipe, Weights
from harness_basin.own_recipes import check_changed_images
from harness_basin.populations.couplings.shuffle import Shuffle
from harness_basin.populations.population import PopulationOptions, require_several


class WashEnsemble(EnsembleBuilder):
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
        shuffle = Shuffle(Shuffle.Options(p=self.options.p))
        return cell.couple(self.options.members(cell), shuffle).at(cell.epochs)
