"""`--engine-option`: values become validated options of the engine; a mistake gives one line."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cli.engine_options import parse_engine_options
from harness.errors import UserError
from harness.registry.catalogue import load_catalogue
from harness.runs.engine import make_engine

CATALOGUE = load_catalogue()


def test_values() -> None:
    """Values are YAML numbers and nulls, and complete the options that `harness run` has under their own names."""
    engine = make_engine(CATALOGUE, "local", parse_engine_options(["task_timeout=1.5"]), {"workers": 3, "task_timeout": None})
    assert engine.options.model_dump() == {"workers": 3, "task_timeout": 1.5}
    assert make_engine(CATALOGUE, "local", parse_engine_options(["workers=null"]), {}).options.workers is None


MISTAKES: list[tuple[list[str], dict[str, Any], str]] = [
    (["workers"], {}, "--engine-option workers: expected KEY=VALUE, such as workers=2"),
    (["=2"], {}, "--engine-option =2: expected KEY=VALUE, such as workers=2"),
    (["wokers=2"], {}, "--engine-option local: unknown key 'wokers'; did you mean 'workers'? known: task_timeout, workers"),
    (["workers=two"], {}, "--engine-option workers: 'two' is not an integer; an integer of at least 1 and at most 1024"),
    (["workers=0"], {}, "--engine-option workers: 0 is out of range; an integer of at least 1 and at most 1024"),
    (["workers=2", "workers=3"], {}, "--engine-option workers: given twice"),
    (["workers=2"], {"workers": 3}, "--engine-option workers: given twice"),
    ([], {"nodes": 3}, "--nodes: engine 'local' has no such option"),
]


@pytest.mark.parametrize(("pairs", "own", "message"), MISTAKES, ids=lambda value: str(value))
def test_mistake(pairs: list[str], own: dict[str, Any], message: str) -> None:
    """The message gives the option, what is wrong with its value, and what is allowed."""
    with pytest.raises(UserError) as error:
        make_engine(CATALOGUE, "local", parse_engine_options(pairs), own)
    assert str(error.value).startswith(message)


def test_unknown_engine() -> None:
    """The message suggests the nearest known one."""
    with pytest.raises(UserError, match="unknown engine 'lokal'; did you mean 'local'"):
        make_engine(CATALOGUE, "lokal", [], {})
