"""Messages about invalid options."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import Field

import harness
from benchmark.toy_options import Shapes
from harness.benchmark import validate_options


@pytest.mark.parametrize(
    ("given", "place", "issue"),
    [
        ({"auto": "x"}, ("auto",), "'x' is not allowed; an integer or 'auto'"),
        ({"auto": "3"}, ("auto",), "'3' is not allowed; an integer or 'auto'"),
        ({"switch": "x"}, ("switch",), "'x' is not true or false; true or false or null"),
        ({"color": "rd"}, ("color",), "unknown value 'rd'; did you mean 'red'? known: blue, red"),
        ({"color": 3}, ("color",), "3 is not allowed; 'red' or 'blue'"),
        ({"stages": [{"depth": 0}]}, ("stages", 0, "depth"), "0 is out of range; an integer of at least 1"),
        ({"stages": [{"sizes": [1]}]}, ("stages", 0, "sizes"), "[1] is too short; a list of 2: an integer, an integer"),
        ({"stages": [{"dept": 1}]}, ("stages", 0, "dept"), "unknown key 'dept'; did you mean 'depth'? known: depth, sizes"),
        ({"either": "x"}, ("either",), "'x' is not allowed; a mapping of depth, sizes or a list (each an integer) or null"),
        ({"chosen": [{}]}, ("chosen",), "[a mapping of 0 keys] is not a list; a list (each a text)"),
        ({"rates": {"a": "x"}}, ("rates", "a"), "'x' is not a number"),
        ({"pairs": [[1]]}, ("pairs", 0), "[1] is too short; a list of 2: an integer, a number"),
        ({"share": 0}, ("share",), "0 is out of range; a number above 0 and at most 1"),
        ({"heads": 6}, ("heads",), "6 is not allowed; an integer of at least 1 and a multiple of 4"),
        ({"most": 10}, ("most",), "10 is out of range; an integer of at most 9"),
    ],
    ids=str,
)
def test_invalid_value(given: dict[str, Any], place: tuple, issue: str) -> None:
    """No value is converted silently; the message says what is allowed."""
    options, [found] = validate_options(Shapes, given)
    assert options is None
    assert (found.path, found.text) == (place, issue)


def test_wrong_items_of_a_list_with_a_least_length() -> None:
    """Only the items are reported, also for a list that is too short: they are to be corrected first."""

    class Severities(harness.Options):
        values: tuple[int, ...] = Field(min_length=2)

    _, issues = validate_options(Severities, {"values": [True, 1.5]})
    found = [(issue.path, issue.text) for issue in issues]
    assert found == [(("values", 0), "true is not an integer"), (("values", 1), "1.5 is not an integer")]
    _, [issue] = validate_options(Severities, {"values": ["x"]})
    assert (issue.path, issue.text) == (("values", 0), "'x' is not an integer")
    _, [issue] = validate_options(Severities, {"values": [1]})
    assert issue.text == "[1] is too short; a list of at least 2 (each an integer)"


def test_field_that_json_schema_cannot_express() -> None:
    """Messages still list the known keys."""

    class Exotic(harness.Options):
        model_config = {"arbitrary_types_allowed": True}
        path: re.Match | None = None
        depth: int = 1

    _, issues = validate_options(Exotic, {"depht": 2, "path": 1, "depth": "x"}, ("label",))
    assert [issue.text for issue in issues] == [
        "unknown key 'depht'; did you mean 'depth'? known: depth, label, path",
        "1 is not allowed",
        "'x' is not an integer",
    ]
