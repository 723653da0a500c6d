"""YAML values converted to the types of option fields."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.toy_options import Color, Shapes, Stage
from harness.benchmark import validate_options


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"auto": 3}, {"auto": 3}),
        ({"switch": "no", "word": "no"}, {"switch": False, "word": "no"}),
        ({"color": "blue"}, {"color": Color.BLUE}),
        ({"stages": [{"sizes": [2, 3]}, {}]}, {"stages": (Stage(sizes=(2, 3)), Stage())}),
        ({"either": [1]}, {"either": (1,)}),
        ({"either": {"sizes": [1, 2]}}, {"either": Stage(sizes=(1, 2))}),
        ({"chosen": ["a", "b"]}, {"chosen": frozenset("ab")}),
        ({"rates": {"a": 1}}, {"rates": {"a": 1.0}}),
        ({"pairs": [[1, 2]]}, {"pairs": [(1, 2.0)]}),
        ({"anything": {"a": [1]}}, {"anything": {"a": [1]}}),
    ],
)
def test_field_types(given: dict[str, Any], fields: dict[str, Any]) -> None:
    """A YAML value becomes the type that the strict field requires."""
    options, issues = validate_options(Shapes, given)
    assert (options, issues) == (Shapes(**fields), [])
