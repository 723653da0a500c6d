"""The setting of a cell, and the base class of values that are identified by a key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

from harness.api.interfaces import Architecture, Dataset
from harness.api.options import options_json
from harness.api.recipe import Recipe
from harness.api.specs import SettingSpec, Spec
from harness.api.task import FORMAT, key_of


class ContentAddressed(ABC):
    """A value that is identified by its key, the sha256 of its spec. Values with equal keys are equal."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Everything that the value is a function of. Other content-addressed values are given by their keys."""

    @cached_property
    def key(self) -> str:
        """The sha256 of the spec's canonical JSON, in hexadecimal."""
        return key_of(self.spec.to_json())

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ContentAddressed) and self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class Setting(ContentAddressed):
    """Data set, architecture and recipe: what all trajectories of a cell have in common."""

    dataset: Dataset
    architecture: Architecture
    recipe: Recipe

    @cached_property
    def spec(self) -> SettingSpec:
        """The setting as task specs contain it."""
        return SettingSpec(
            format=FORMAT,
            dataset={**self.dataset.identity, "fingerprint": self.dataset.fingerprint},
            architecture=self.architecture.identity,
            recipe=options_json(self.recipe),
        )

    def with_recipe(self, recipe: Recipe) -> Setting:
        """Return the setting with another recipe, for a member of its own.

        Raise `ValueError` if images would be normalized otherwise: an ensemble is evaluated on one set of images.
        """
        if not isinstance(recipe, Recipe):
            raise ValueError(f"recipe is {recipe!r:.60}; a harness.Recipe, such as cell.recipe.replace(weight_decay=0.0)")
        if recipe.normalization != self.recipe.normalization:
            raise ValueError("the recipe's normalization differs from the cell's; members see the same images")
        return self if recipe == self.recipe else replace(self, recipe=recipe)
