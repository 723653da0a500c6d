"""Members that share a start and differ in their recipes, as the ingredients of model soups and DiWA do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness import Cell, Dataset, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import ForkEpochOptions
from harness_basin.own_recipes import check_changed_images, check_changes, recipe_of

_FIXED = ("epochs", "normalization")
"""Fields of the recipe that all members share."""

_RECIPES: tuple[dict[str, Any], ...] = ({}, {"label_smoothing": 0.05}, {"label_smoothing": 0.1}, {"weight_decay": 0.0})


class VariedOptions(ForkEpochOptions):
    """The fork epoch, and the recipes of the members."""

    recipes: tuple[dict[str, Any], ...] = Field(
        _RECIPES,
        min_length=1,
        description="changes of the recipe after the fork, one mapping per member; with fewer than M, they start over",
    )


class VariedEnsemble(EnsembleBuilder):
    """M runs that share their first t epochs and then use different batch orders and recipes."""

    name, version = "varied", 1
    Options = VariedOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a fork epoch at or beyond T, and for changes that do not fit the recipe."""
        options: VariedOptions = self.options
        options.check(recipe)
        check_changes(recipe, options.recipes, _FIXED)

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` for changes of batches or crops that do not fit the images or their number."""
        super().check_dataset(dataset, recipe)
        check_changed_images(dataset, recipe, self.options.recipes)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs. Learning rates and decays hold from there on."""
        options: VariedOptions = self.options
        trunk = options.trunk(cell)
        members = []
        for j in range(cell.size):
            recipe = recipe_of(cell.recipe, options.recipes, j)
            members.append(trunk.fork(order=j, recipe=recipe).at(cell.epochs))
        return members
