"""Members that share a start and differ in their recipes, as the ingredients of model soups and DiWA do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness import Cell, EnsembleBuilder, Recipe, Weights
from harness_basin.forking import ForkEpochOptions

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
        for number, changes in enumerate(options.recipes):
            for name in _FIXED:
                if name in changes:
                    raise ValueError(f"recipes[{number}] changes {name}, which all members share")
            try:
                recipe.replace(**changes)
            except ValueError as error:
                raise ValueError(f"recipes[{number}]: {_first_problem(error)}") from None

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M continuations of the reference's first t epochs. Learning rates and decays hold from there on."""
        options: VariedOptions = self.options
        trunk = options.trunk(cell)
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
    return f"{where} is {detail['input']!r:.60}: {detail['msg']}"
