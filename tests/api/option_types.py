"""Options with one field of each supported type, and random values of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, Field, PositiveInt, RootModel

import harness


class Color(enum.Enum):
    """Two strings, and a pair of numbers."""

    RED = "red"
    BLUE = "blue"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    """Two numbers."""

    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    """Two strings."""

    A = "a"
    B = "b"


class Span(NamedTuple):
    """A named tuple."""

    start: int
    stop: int


@dataclass(frozen=True)
class Point:
    """A dataclass."""

    x: float
    y: float


class Stage(harness.Options):
    """Nested options."""

    depth: int = 1
    sizes: tuple[int, ...] = ()
    tags: frozenset[str] = frozenset()


class Other(BaseModel):
    """A nested model that is not a subclass of `Options`."""

    kind: Literal["other"] = "other"
    where: Path = Path()


class Names(RootModel[dict[str, Path]]):
    """A root model of a mapping."""


class AllTypes(harness.Options):
    """One field of each type that a plugin may use."""

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
    timestamp: datetime = datetime(2020, 1, 1)
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
ALL_TYPES = st.builds(
    AllTypes,
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
    timestamp=st.one_of(
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
