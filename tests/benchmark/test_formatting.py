"""Values and key paths in messages."""

from __future__ import annotations

import math

import pytest

from harness.benchmark.formatting import format_path, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (math.nan, ".nan"),
        (-math.inf, "-.inf"),
        ("it's", '"it\'s"'),
        ("a\nb", r"'a\nb'"),
        ("x" * 61, f"'{'x' * 40}'… (61 characters)"),
        ({"a": 1}, "a mapping of 1 key"),
        ({}, "a mapping of 0 keys"),
        ([1, (2, None)], "[1, [2, null]]"),
        (list(range(11)), "a list of 11 values"),
    ],
)
def test_values(value: object, text: str) -> None:
    """Values are printed on one line, shortened, in YAML's notation."""
    assert format_value(value) == text


def test_key_paths() -> None:
    """Key paths are dotted, their long keys shortened."""
    assert format_path(("recipe", "betas", 1)) == "recipe.betas[1]"
    assert format_path(("a", "k" * 10_000)) == f"a.'{'k' * 40}'… (10000 characters)"
    assert "\n" not in format_path(("a\nb",))
