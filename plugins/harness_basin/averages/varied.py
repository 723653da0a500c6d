"""Members that share a start and differ in their recipes, as the ingredients of model soups and DiWA do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.own_recipes import check_changes, recipe_of

_FIXED = ("epochs", "normalization")
"""Fields of the recipe that all members share."""

_RECIPES: tuple[dict[str, Any], ...] = ({}, {"label_smoothing": 0.05}, {"label_smoothing": 0.1}, {"weight_decay": 0.0})


class VariedOptions(harness.Options):
    """The fork epoch, and the recipes of the members."""

    fork_epoch: int | None = Field(
        None, ge=0, description="t, the number of epochs that all members share; null: a tenth of T, at least 1"
    )
    recipes: tuple[dict[str, Any], ...] = Field(
        _RECIPES,
        min_length=1,
        description="changes of the recipe after the fork, one mapping per member; with fewer than M, they start over",
    )

    def epoch(self, epochs: int) -> int:
        """Return t for runs of T epochs."""
        if self.fork_epoch is None:
            return max(1, epochs // 10)
        return self.fork_epoch


class VariedEnsemble(EnsembleBuilder):
    """M runs that share their first t epochs and then use different batch orders and recipes."""

    name, version = "varied", 1
    Options = VariedOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` for a fork epoch at or beyond T, and for changes that do not fit the recipe."""
        options: VariedOptions = self.options
        fork_epoch = options.epoch(recipe.epochs)
        if fork_epoch >= recipe.epochs:
            raise ValueError(f"fork_epoch is {fork_epoch}; at most epochs - 1 = {recipe.epochs - 1}")
        check_changes(recipe, options.recipes, _FIXED)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs. Learning rates and decays hold from there on."""
        options: VariedOptions = self.options
        trunk = cell.trajectory(member=0).at(options.epoch(cell.epochs))
        members = []
        for j in range(cell.size):
            recipe = recipe_of(cell.recipe, options.recipes, j)
            members.append(trunk.fork(order=j, recipe=recipe).at(cell.epochs))
        return members
