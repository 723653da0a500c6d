"""What populations, whose members train together, have in common: their starts, their recipes, and how they are built."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

import harness
from harness import Cell, Coupling, Dataset, EnsembleBuilder, Recipe, Trajectory, Weights
from harness_basin.own_recipes import check_changed_images, check_changes, recipe_of


class PopulationOptions(harness.Options):
    """Where the members of a population start, and what is their own in their recipes."""

    start: Literal["common", "independent"] = Field(
        "common",
        description="common: one initialization for all members, own orders; independent: M initializations",
    )
    recipes: tuple[dict[str, Any], ...] = Field(
        ({},),
        min_length=1,
        description="changes of the recipe, one mapping per member; with fewer than M, they start over",
    )

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` for changes that do not fit the recipe, or that members which train together must share."""
        shared = [name for name in Recipe.model_fields if name not in Recipe.own_fields]
        check_changes(recipe, self.recipes, shared)

    def members(self, cell: Cell) -> list[Trajectory]:
        """Return the M trainings as they would be without the coupling.

        Without changes of recipes, they are those of `constrained` at epoch 0, or of `deep`.
        """
        recipes = [recipe_of(cell.recipe, self.recipes, j) for j in range(cell.size)]
        if self.start == "independent":
            return [cell.trajectory(member=j, recipe=recipe) for j, recipe in enumerate(recipes)]
        common = cell.trajectory(member=0).at(0)
        return [common.fork(order=j, recipe=recipe) for j, recipe in enumerate(recipes)]


class CoupledEnsemble(EnsembleBuilder):
    """M runs that a coupling ties. The options have `check(recipe)` and `members(cell)`, the runs without the coupling."""

    @abstractmethod
    def coupling(self) -> Coupling:
        """Return what ties the members."""

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for one member, and for options that do not fit the recipe."""
        if members < 2:
            raise ValueError(f"members is {members}; {self.name} ties at least 2")
        self.options.check(recipe)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the M runs at epoch T."""
        return cell.couple(self.options.members(cell), self.coupling()).at(cell.epochs)


class Population(CoupledEnsemble):
    """M runs that a coupling ties from initialization on, with recipes of their own. Its options are `PopulationOptions`."""

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` for changes of crops that do not fit the images."""
        super().check_dataset(dataset, recipe)
        check_changed_images(dataset, recipe, self.options.recipes)
