"""Options in keys: equal options have equal JSON in every process, and the JSON gives equal options back."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FilePath,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretStr,
    field_validator,
    model_validator,
)

import harness
from harness.api.json_values import json_value
from harness.api.options import changed_options, options_from_json, options_json
from harness.api.recipe import Recipe
from harness.api.task import canonical_json
from harness.benchmark import validate_options
from harness.errors import PluginError
from harness.registry.catalogue import Catalogue, Registration
from toys import PLUGIN, Blobs


class Color(enum.Enum):
    """A choice of texts, and one of two numbers."""

    RED = "red"
    BLUE = "blue"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    """A choice of numbers."""

    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    """A choice of texts."""

    A = "a"
    B = "b"


class Span(NamedTuple):
    """Two numbers with names."""

    start: int
    stop: int


@dataclass(frozen=True)
class Point:
    """Two numbers with names."""

    x: float
    y: float


class Stage(harness.Options):
    """A part of options."""

    depth: int = 1
    sizes: tuple[int, ...] = ()
    tags: frozenset[str] = frozenset()


class Other(BaseModel):
    """A part that is no `Options`."""

    kind: Literal["other"] = "other"
    where: Path = Path()


class Names(RootModel[dict[str, Path]]):
    """A mapping with a name of its own."""


class Zoo(harness.Options):
    """One field of each type that a plugin may want."""

    number: float = 1  # not 1.0: the default is not validated
    count: PositiveInt = 1
    maybe: int | None = None
    mixed: int | float | str | bool | None = None
    text: str = ""
    color: Color = Color.RED
    level: Level = Level.LOW
    word: Word = Word.A
    choice: Literal[1, 2, "auto"] = "auto"
    member: Literal[Color.RED, Color.BLUE] = Color.RED
    folder: Path = Path()
    folders: tuple[Path, ...] | None = None
    day: date = date(2020, 1, 1)
    moment: datetime = datetime(2020, 1, 1)
    clock: time = time(12)
    pause: timedelta = timedelta(0)
    uuid: UUID = UUID(int=0)
    exact: Decimal = Decimal("1.50")
    point: complex = 0j
    raw: bytes = b""
    tags: frozenset[str] = frozenset()
    colors: frozenset[Color] = frozenset()
    paths: set[Path] = set()
    pairs: frozenset[tuple[int, str]] = frozenset()
    nested: frozenset[frozenset[int]] = frozenset()
    by_name: dict[str, frozenset[str]] = {}
    by_number: dict[int, float] = {}
    by_color: dict[Color, tuple[int, int]] = {}
    by_day: dict[date, bool] = {}
    stage: Stage = Stage()
    stages: dict[str, Stage] = {}
    either: Stage | Other | None = None
    shares: list[Annotated[float, Field(ge=0, le=1)]] = []
    span: Span = Span(0, 1)
    place: Point = Point(0.0, 0.0)
    names: Names = Names({})
    anything: Any = None


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PATHS = st.sampled_from([Path("data"), Path("~/x"), Path("../b/c"), Path("/a"), Path("ä b")])
SMALL = st.integers(-(2**53), 2**53)
STAGES = st.builds(Stage, depth=SMALL, sizes=st.lists(SMALL, max_size=2).map(tuple), tags=st.frozensets(TEXT, max_size=3))
ZOOS = st.builds(
    Zoo,
    number=FINITE,
    count=st.integers(1, 2**62),
    mixed=st.one_of(st.none(), st.booleans(), SMALL, FINITE, TEXT),
    text=TEXT,
    color=st.sampled_from([Color.RED, Color.BLUE]),
    level=st.sampled_from(Level),
    word=st.sampled_from(Word),
    choice=st.sampled_from([1, 2, "auto"]),
    member=st.sampled_from([Color.RED, Color.BLUE]),
    folder=PATHS,
    folders=st.one_of(st.none(), st.lists(PATHS, max_size=2).map(tuple)),
    day=st.dates(),
    moment=st.one_of(
        st.datetimes(), st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(timezone(timedelta(hours=5))))
    ),
    clock=st.times(),
    pause=st.timedeltas(timedelta(days=-999_999), timedelta(days=999_999)),
    uuid=st.uuids(),
    exact=st.decimals(allow_nan=False, allow_infinity=False),
    point=st.complex_numbers(allow_nan=False, allow_infinity=False),
    raw=TEXT.map(str.encode),
    tags=st.frozensets(TEXT, max_size=4),
    colors=st.frozensets(st.sampled_from([Color.RED, Color.BLUE])),
    paths=st.sets(PATHS),
    pairs=st.frozensets(st.tuples(SMALL, TEXT), max_size=3),
    nested=st.frozensets(st.frozensets(SMALL, max_size=2), max_size=2),
    by_name=st.dictionaries(TEXT, st.frozensets(TEXT, max_size=2), max_size=2),
    by_number=st.dictionaries(SMALL, FINITE, max_size=3),
    by_color=st.dictionaries(st.sampled_from([Color.RED, Color.BLUE]), st.tuples(SMALL, SMALL)),
    by_day=st.dictionaries(st.dates(), st.booleans(), max_size=2),
    stage=STAGES,
    stages=st.dictionaries(TEXT, STAGES, max_size=2),
    either=st.one_of(st.none(), STAGES, st.builds(Other, where=PATHS)),
    shares=st.lists(st.floats(0, 1), max_size=2),
    span=st.builds(Span, SMALL, SMALL),
    place=st.builds(Point, FINITE, FINITE),
    names=st.dictionaries(TEXT, PATHS, max_size=2).map(Names),
)


@settings(max_examples=200, deadline=None)
@given(ZOOS)
def test_options_of_every_type(options: Zoo) -> None:
    """The JSON gives equal options back, whose JSON is the same to the character."""
    written = options_json(options)
    text = canonical_json(written)
    again = options_from_json(Zoo, json.loads(text))
    assert again == options
    assert canonical_json(options_json(again)) == text


def test_defaults_of_every_type() -> None:
    """Options that say their defaults and options that do not have one JSON, defaults of another number type too."""
    assert canonical_json(options_json(Zoo())) == canonical_json(options_json(Zoo(number=1.0, exact=Decimal("1.5"))))


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
            {"moment": datetime(2020, 1, 1, 12, tzinfo=UTC)},
            {"moment": datetime(2020, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))},
        ),
    ],
    ids=str,
)
def test_equal_options(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Options that are equal in Python have equal JSON."""
    assert Zoo(**first) == Zoo(**second)
    assert canonical_json(options_json(Zoo(**first))) == canonical_json(options_json(Zoo(**second)))


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
    ids=repr,
)
def test_json_of_a_value(value: Any, written: Any) -> None:
    """Each type has one form, which pydantic's own is where that is one."""
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
    ids=repr,
)
def test_value_that_cannot_be_in_a_key(value: Any, refusal: str) -> None:
    """The option and the type are named, with what is allowed."""
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


def test_every_process() -> None:
    """Keys do not depend on the seed of Python's hashes; nor do the defaults that an editor's schema shows."""
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


def test_serializer_of_the_author() -> None:
    """A type of the author's own is in keys as its serializer writes it, and comes back by its validator."""

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


def test_validator_that_changes_what_it_accepted() -> None:
    """Options that would come back as others are refused with the option, before anything is planned with them."""

    class Doubling(harness.Options):
        size: Annotated[int, AfterValidator(lambda size: 2 * size)] = 1

    with pytest.raises(PluginError, match=r"^option 'size': 6 would come back as 12; a validator must leave what it has acc"):
        options_json(Doubling(size=3))


def test_default_that_is_no_value_of_its_field() -> None:
    """A default that no file could give is named."""

    class Sloppy(harness.Options):
        size: int = None  # type: ignore[assignment]

    with pytest.raises(PluginError, match=r"^option 'size': None cannot be read back from a key: Input should be a valid int"):
        options_json(Sloppy())


def test_validators_before_others() -> None:
    """Validators that look at options before their fields do see tuples, from a key as from a file."""

    class Careful(harness.Options):
        sizes: tuple[int, ...] = ()
        day: date | None = None

        @field_validator("sizes", mode="before")
        @classmethod
        def _seen(cls, sizes: Any) -> Any:
            return sizes

        @model_validator(mode="before")
        @classmethod
        def _seen_too(cls, values: Any) -> Any:
            return values

    assert options_from_json(Careful, options_json(Careful(sizes=(1, 2), day=date(2020, 1, 2)))).sizes == (1, 2)


def test_changed_options() -> None:
    """What is not as it is by default, as JSON: an equal value is no change."""
    assert changed_options(Zoo(number=1.0, tags=frozenset("ba"), folder=Path())) == {"tags": ["a", "b"]}


def test_description_for_messages() -> None:
    """An option is described with its value, and as the default if nobody gave it."""
    assert Stage().describe("depth") == "depth is 1 (the default)"
    assert Stage(depth=1, tags=frozenset("ba")).describe("depth") == "depth is 1"
    assert Stage(tags=frozenset("ba")).describe("tags") == 'tags is ["a", "b"]'


# From a benchmark file


class Files(harness.Options):
    """Types that a file may give options of."""

    file: FilePath | None = None
    size: PositiveInt = 1
    auto: Literal["auto"] | Path = "auto"
    share: float | Decimal = 0.5


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"folder": "data"}, {"folder": Path("data")}),
        ({"folders": ["a", "~/b"]}, {"folders": (Path("a"), Path("~/b"))}),
        ({"day": "2020-02-29"}, {"day": date(2020, 2, 29)}),
        ({"moment": "2020-01-01T10:00:00Z"}, {"moment": datetime(2020, 1, 1, 10, tzinfo=UTC)}),
        ({"clock": "10:30:00"}, {"clock": time(10, 30)}),
        ({"pause": "PT1H30M"}, {"pause": timedelta(minutes=90)}),
        ({"uuid": "00000000-0000-0000-0000-000000000003"}, {"uuid": UUID(int=3)}),
        ({"exact": 0.1}, {"exact": Decimal("0.1")}),
        ({"exact": "0.10"}, {"exact": Decimal("0.1")}),
        ({"point": "1+2j"}, {"point": 1 + 2j}),
        ({"raw": "abc"}, {"raw": b"abc"}),
        ({"color": "blue", "level": 2, "word": "b"}, {"color": Color.BLUE, "level": Level.HIGH, "word": Word.B}),
        ({"color": [1, 2]}, {"color": Color.PAIR}),
        ({"member": "blue", "choice": 2}, {"member": Color.BLUE, "choice": 2}),
        ({"colors": ["red", "blue"]}, {"colors": frozenset([Color.RED, Color.BLUE])}),
        ({"by_number": {"3": 1}}, {"by_number": {3: 1.0}}),
        ({"by_color": {"red": [1, 2]}}, {"by_color": {Color.RED: (1, 2)}}),
        ({"by_day": {"2020-01-02": True}}, {"by_day": {date(2020, 1, 2): True}}),
        ({"stages": {"a": {"sizes": [1]}}}, {"stages": {"a": Stage(sizes=(1,))}}),
        ({"either": {"kind": "other", "where": "x"}}, {"either": Other(where=Path("x"))}),
        ({"span": [1, 2]}, {"span": Span(1, 2)}),
        ({"place": {"x": 1, "y": 2}}, {"place": Point(1.0, 2.0)}),
        ({"names": {"a": "b"}}, {"names": Names({"a": Path("b")})}),
    ],
    ids=str,
)
def test_types_from_a_file(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A file's values become the types that fields want."""
    options, faults = validate_options(Zoo, given)
    assert faults == []
    assert options == Zoo(**wanted)


def test_types_with_conditions_from_a_file(tmp_path: Path) -> None:
    """A path that must exist, and unions of texts and paths: a choice stays a choice."""
    (tmp_path / "there").write_text("")
    options, _ = validate_options(Files, {"file": str(tmp_path / "there"), "auto": "auto", "share": 0.25})
    assert (options.file, options.auto, options.share) == (tmp_path / "there", "auto", 0.25)
    assert validate_options(Files, {"auto": "data"})[0].auto == Path("data")
    [fault] = validate_options(Files, {"file": "nowhere"})[1]
    assert fault.text == "'nowhere' is not allowed; a path or null"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"folder": 3}, "3 is not allowed; a path"),
        ({"day": "2020-02-30"}, "'2020-02-30' is not a date; a date such as '2026-01-31'"),
        ({"day": 20200101}, "20200101 is not a date; a date such as '2026-01-31'"),
        ({"moment": "noon"}, "'noon' is not a date and time; a date and time such as '2026-01-31T12:00:00'"),
        ({"pause": 5}, "5 is not a duration; a duration such as 'PT1H30M'"),
        ({"uuid": "x"}, "'x' is not allowed; a UUID"),
        ({"level": True}, "true is not allowed; 1 or 2"),
        ({"level": 3}, "3 is not allowed; 1 or 2"),
        ({"count": 0}, "0 is out of range; an integer above 0"),
        ({"folders": [1]}, "1 is not allowed; a path"),
        ({"choice": 3}, "3 is not allowed; 1 or 2 or 'auto'"),
    ],
    ids=str,
)
def test_types_refused_from_a_file(given: dict[str, Any], fault: str) -> None:
    """One line says what the type would be."""
    options, [found] = validate_options(Zoo, given)
    assert options is None
    assert found.text == fault


# Identities


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
def test_identity_that_is_not_the_plugins(options: dict[str, Any], refusal: str) -> None:
    """A task whose plugin would have another identity is refused with what differs."""
    with pytest.raises(PluginError) as caught:
        CATALOGUE.from_identity("dataset", {"name": "tagged", "version": 1, "options": options})
    assert str(caught.value).startswith("dataset 'tagged': ")
    assert refusal in str(caught.value)


def test_identity_with_sets() -> None:
    """The options come back as they were."""
    options = Tagged.Options(size=np.int64(5), tags=frozenset("cab"))
    assert CATALOGUE.from_identity("dataset", Tagged(options).identity).options == options


def test_recipe_comes_back() -> None:
    """A recipe built from NumPy's numbers has the key of one built from Python's."""
    recipe = Recipe(epochs=np.int64(3), learning_rate=np.float64(0.1), betas=(np.float64(0.5), 0))
    assert options_from_json(Recipe, options_json(recipe)) == recipe == Recipe(epochs=3, learning_rate=0.1, betas=(0.5, 0.0))
