"""Members that share a start and differ in their recipes, as the ingredients of model soups and DiWA do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

import harness
from harness import Cell, Dataset, EnsembleBuilder, Recipe, Weights

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
        for number, changes in enumerate(options.recipes):
            for name in _FIXED:
                if name in changes:
                    raise ValueError(f"recipes[{number}] changes {name}, which all members share")
            try:
                recipe.replace(**changes)
            except ValueError as error:
                raise ValueError(f"recipes[{number}]: {_first_problem(error)}") from None

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` for changes of batches or crops that do not fit the images or their number."""
        super().check_dataset(dataset, recipe)
        for number, changes in enumerate(self.options.recipes):
            changed = recipe.replace(**changes)
            try:
                changed.check_train_size(dataset.train_size)
                changed.augmentation.check_images(dataset.shape)
            except ValueError as error:
                raise ValueError(f"recipes[{number}]: {error}") from None

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs. Learning rates and decays hold from there on."""
        options: VariedOptions = self.options
        trunk = cell.trajectory(member=0).at(options.epoch(cell.epochs))
        members = []
        for j in range(cell.size):
            changes = options.recipes[j % len(options.recipes)]
            members.append(trunk.fork(order=j, recipe=cell.recipe.replace(**changes)).at(cell.epochs))
        return members


def _first_problem(error: ValueError) -> str:
    """Return the first problem of a validation in one line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where} is no field of a recipe"
    return f"{where} is {detail['input']!r:.60}: {detail['msg']}"
