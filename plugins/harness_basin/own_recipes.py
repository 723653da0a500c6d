"""Changes of the recipe per member, as an option of methods whose members are trained differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from harness import Dataset, Recipe


def recipe_of(recipe: Recipe, changes: Sequence[Mapping[str, Any]], member: int) -> Recipe:
    """Return the recipe of a member. With fewer changes than members, they start over."""
    return recipe.replace(**changes[member % len(changes)])


def check_changes(recipe: Recipe, changes: Sequence[Mapping[str, Any]], fixed: Sequence[str]) -> None:
    """Raise `ValueError` for changes of fields that are fixed, and for values that the recipe refuses."""
    for number, change in enumerate(changes):
        for name in change:
            if name in fixed:
                raise ValueError(f"recipes[{number}] changes {name}, which all members share")
        try:
            recipe.replace(**change)
        except ValueError as error:
            raise ValueError(f"recipes[{number}]: {_first_problem(error)}") from None


def check_changed_images(dataset: Dataset, recipe: Recipe, changes: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ValueError` for changes of batches or crops that do not fit the images or their number."""
    for number, change in enumerate(changes):
        changed = recipe.replace(**change)
        try:
            changed.check_train_size(dataset.train_size)
            changed.augmentation.check_images(dataset.shape)
        except ValueError as error:
            raise ValueError(f"recipes[{number}]: {error}") from None


def _first_problem(error: ValueError) -> str:
    """Return the first problem of a validation in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where} is no field of a recipe"
    return f"{where} is {detail['input']!r:.60}: {detail['msg']}"
