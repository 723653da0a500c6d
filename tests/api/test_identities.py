"""Identities of plugins: the options in a task come back as they were, or the task is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import harness
from harness.api.options import options_from_json, options_json
from harness.api.recipe import Recipe
from harness.errors import PluginError
from harness.registry.catalogue import Catalogue, Registration
from toys import PLUGIN, Blobs


class Tagged(Blobs):
    """Blobs with tags."""

    name = "tagged"

    class Options(harness.Options):
        """Options."""

        size: int = 96
        tags: frozenset[str] = frozenset()


CATALOGUE = Catalogue([Registration("dataset", "tagged", Tagged, PLUGIN)])


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"size": 96}, "the plugin installed differs from the task's: 'options.tags': nothing would come back as []"),
        (
            {"size": 96, "tags": ["b", "a"]},
            'differs from the task\'s: \'options.tags\': ["b","a"] would come back as ["a","b"]',
        ),
        ({"size": "x"}, "do not fit the plugin installed: option 'size': 'x' cannot be read back from a key: Input should"),
        ({"sise": 1}, "do not fit the plugin installed: option 'sise': 1 cannot be read back from a key: Extra inputs are"),
    ],
    ids=str,
)
def test_identity_that_differs_from_the_installed_plugin(options: dict[str, Any], refusal: str) -> None:
    """The error names the plugin, the option, and how it differs."""
    with pytest.raises(PluginError) as caught:
        CATALOGUE.from_identity("dataset", {"name": "tagged", "version": 1, "options": options})
    assert str(caught.value).startswith("dataset 'tagged': ")
    assert refusal in str(caught.value)


def test_identity_with_a_set() -> None:
    """The options are read back from the identity unchanged."""
    options = Tagged.Options(size=np.int64(5), tags=frozenset("cab"))
    assert CATALOGUE.from_identity("dataset", Tagged(options).identity).options == options


def test_recipe_of_numpy_numbers() -> None:
    """A recipe of NumPy numbers is read back from its JSON, and equals a recipe of Python numbers."""
    recipe = Recipe(epochs=np.int64(3), learning_rate=np.float64(0.1), betas=(np.float64(0.5), 0))
    assert options_from_json(Recipe, options_json(recipe)) == recipe == Recipe(epochs=3, learning_rate=0.1, betas=(0.5, 0.0))
