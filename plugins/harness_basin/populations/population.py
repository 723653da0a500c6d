"""What populations, whose members train together, have in common: where the members start, and their recipes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

import harness
from harness import Cell, Recipe, Trajectory
from harness_basin.own_recipes import check_changes, recipe_of


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


def require_several(members: int, method: str) -> None:
    """Raise `ValueError` for an ensemble of one member, which nothing can be tied to."""
    if members < 2:
        raise ValueError(f"members is {members}; {method} ties at least 2")
