"""Options in keys: equal options have equal JSON in every process, and the JSON gives equal options back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr, field_validator, model_validator

import harness
from api.option_types import ALL_TYPES, AllTypes, Color, Level, Stage
from harness.api.json_values import json_value
from harness.api.options import changed_options, options_from_json, options_json
from harness.api.task import canonical_json
from harness.errors import PluginError


@settings(max_examples=200, deadline=None)
@given(ALL_TYPES)
def test_json_of_every_type_is_read_back(options: AllTypes) -> None:
    """The JSON gives equal options, and these give the same JSON text."""
    written = options_json(options)
    text = canonical_json(written)
    again = options_from_json(AllTypes, json.loads(text))
    assert again == options
    assert canonical_json(options_json(again)) == text


def test_default_values_given_explicitly() -> None:
    """Options with explicit default values have the JSON of options without them, also for equal values of another type."""
    explicit = AllTypes(number=1.0, exact=Decimal("1.5"))
    assert canonical_json(options_json(AllTypes())) == canonical_json(options_json(explicit))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"number": 2}, {"number": 2.0}),
        ({"number": -0.0}, {"number": 0.0}),
        ({"number": np.float64(0.1)}, {"number": 0.1}),
        ({"number": np.float32(0.5)}, {"number": 0.5}),
        ({"number": np.int64(3)}, {"number": 3}),
        ({"number": np.array(0.25)}, {"number": 0.25}),
        ({"count": np.int64(3)}, {"count": 3}),
        ({"mixed": np.bool_(True)}, {"mixed": True}),
        ({"text": np.str_("a")}, {"text": "a"}),
        ({"shares": [np.float64(0.5)]}, {"shares": [0.5]}),
        ({"by_number": {np.int64(1): np.float64(2)}}, {"by_number": {1: 2.0}}),
        ({"stage": Stage(depth=np.int64(2))}, {"stage": Stage(depth=2)}),
        ({"tags": frozenset(["a", "b", "c"])}, {"tags": frozenset(["c", "b", "a"])}),
        ({"by_name": {"a": frozenset("xy"), "b": frozenset()}}, {"by_name": {"b": frozenset(), "a": frozenset("yx")}}),
        ({"exact": Decimal("10")}, {"exact": Decimal("1E+1")}),
        ({"exact": Decimal("-0")}, {"exact": Decimal("0.00")}),
        ({"point": complex(0.0, -0.0)}, {"point": 0j}),
        (
            {"timestamp": datetime(2020, 1, 1, 12, tzinfo=UTC)},
            {"timestamp": datetime(2020, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))},
        ),
    ],
)
def test_equal_options(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Options that are equal in Python have equal JSON."""
    assert AllTypes(**first) == AllTypes(**second)
    assert canonical_json(options_json(AllTypes(**first))) == canonical_json(options_json(AllTypes(**second)))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (frozenset(["red", "blue", "green"]), ["blue", "green", "red"]),
        ({10, 9, -1.5}, [-1.5, 9, 10]),
        ({Color.RED, Color.BLUE}, ["blue", "red"]),
        ({Path("b"), Path("a")}, ["a", "b"]),
        ({(2, "a"), (1, "b")}, [[1, "b"], [2, "a"]]),
        (Path("~/data"), "~/data"),
        (PureWindowsPath("data\\x"), "data/x"),
        ({2: "b", 1: "a"}, {"1": "a", "2": "b"}),
        ({True: 1, 1.5: 2}, {"1.5": 2, "true": 1}),
        (datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00Z"),
        (timedelta(days=1, hours=2), "P1DT2H"),
        (np.float64(0.1), 0.1),
        (np.array(3), 3),
        (Level.HIGH, 2),
        (Color.PAIR, [1, 2]),
    ],
)
def test_json_of_a_value(value: Any, written: Any) -> None:
    """Each type has one JSON form: that of pydantic, unless pydantic's differs between equal values."""
    assert json_value(value) == written
    assert type(json_value(value)) is type(written)


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        (float("nan"), "option 'x': nan cannot be in a key; a finite number can"),
        (np.float32("inf"), "option 'x': inf cannot be in a key; a finite number can"),
        (Decimal("NaN"), "option 'x': NaN cannot be in a key; a finite number can"),
        (b"\xff", "option 'x': bytes that are not UTF-8 cannot be in a key; texts can"),
        (time(1, tzinfo=UTC), "option 'x': the time 01:00:00+00:00 with a time zone cannot be in a key; one without can"),
        ({"a": [object()]}, "option 'x.a[0]': a value of type object cannot be in a key; numbers, texts, paths, dates, "),
        (np.ones(2), "option 'x': a value of type ndarray cannot be in a key; "),
        (SecretStr("a"), "option 'x': a value of type SecretStr cannot be in a key; "),
        ({1: "a", "1": "b"}, "option 'x': two of its keys are written '1'; keys must differ as texts"),
        ({(1, 2): "a"}, "option 'x': a key (1, 2) cannot be in a key; texts and numbers can"),
    ],
)
def test_value_that_cannot_be_in_a_key(value: Any, refusal: str) -> None:
    """The error names the option, its value or type, and what is allowed."""
    with pytest.raises(PluginError) as caught:
        json_value(value, "x")
    assert str(caught.value).startswith(refusal)


SCRIPT = """
import enum, pathlib, sys
import harness
from harness.api.options import options_json
from harness.api.task import canonical_json

class Color(enum.Enum):
    RED, BLUE, GREEN = "red", "blue", "green"

class Part(harness.Options):
    tags: frozenset[str] = frozenset(["u", "v", "w"])

class Many(harness.Options):
    tags: frozenset[str] = frozenset(["red", "green", "blue", "black"])
    colors: frozenset[Color] = frozenset(Color)
    paths: set[pathlib.Path] = {pathlib.Path(name) for name in "abcd"}
    pairs: dict[str, frozenset[tuple[str, int]]] = {"z": frozenset((name, 1) for name in "abcd"), "a": frozenset()}
    parts: tuple[Part, ...] = (Part(),)

print(canonical_json([options_json(Many()), Many.model_json_schema()]))
"""


def test_processes_with_different_hash_seeds() -> None:
    """Neither the JSON of options nor their JSON schema depends on PYTHONHASHSEED."""
    texts = set()
    for seed in ("0", "1", "2", "3"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        texts.add(run.stdout)
    assert len(texts) == 1


def test_type_with_its_own_serializer() -> None:
    """Keys hold what the serializer writes, and the validator reads it back."""

    class Kernel:
        def __init__(self, name: str) -> None:
            self.name = name

    def read(value: Any) -> Any:
        return Kernel(value) if isinstance(value, str) else value

    class Own(harness.Options):
        model_config = {"arbitrary_types_allowed": True}
        kernel: Annotated[Kernel, BeforeValidator(read), PlainSerializer(lambda kernel: kernel.name)] = Kernel("rbf")

    assert options_json(Own()) == {"kernel": "rbf"}
    assert options_from_json(Own, {"kernel": "linear"}).kernel.name == "linear"


def test_validator_that_is_not_idempotent() -> None:
    """Options that would be read back as different ones are refused; the error names the option."""

    class Doubling(harness.Options):
        size: Annotated[int, AfterValidator(lambda size: 2 * size)] = 1

    with pytest.raises(PluginError, match=r"^option 'size': 6 would come back as 12; a validator must leave what it has acc"):
        options_json(Doubling(size=3))


def test_default_that_its_field_does_not_allow() -> None:
    """A default that the validation would refuse is refused; the error names the option."""

    class Sloppy(harness.Options):
        size: int = None  # type: ignore[assignment]

    with pytest.raises(PluginError, match=r"^option 'size': None cannot be read back from a key: Input should be a valid int"):
        options_json(Sloppy())


def test_before_validators() -> None:
    """Options with `mode="before"` validators are read back from their JSON."""

    class Careful(harness.Options):
        sizes: tuple[int, ...] = ()
        day: date | None = None

        @field_validator("sizes", mode="before")
        @classmethod
        def _pass_sizes(cls, sizes: Any) -> Any:
            return sizes

        @model_validator(mode="before")
        @classmethod
        def _pass_all(cls, values: Any) -> Any:
            return values

    options = Careful(sizes=(1, 2), day=date(2020, 1, 2))
    assert options_from_json(Careful, options_json(options)) == options


def test_changed_options() -> None:
    """Only options that differ from their defaults are listed, as JSON; an equal value of another type does not differ."""
    assert changed_options(AllTypes(number=1.0, tags=frozenset("ba"), folder=Path())) == {"tags": ["a", "b"]}


def test_description_for_messages() -> None:
    """The description has the option's name and value, and says whether the value is the default."""
    assert Stage().describe("depth") == "depth is 1 (the default)"
    assert Stage(depth=1, tags=frozenset("ba")).describe("depth") == "depth is 1"
    assert Stage(tags=frozenset("ba")).describe("tags") == 'tags is ["a", "b"]'
