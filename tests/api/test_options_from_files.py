"""Options from a benchmark file: which values become which types, and which are refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import FilePath, PositiveInt

import harness
from api.option_types import AllTypes, Color, Level, Names, Other, Point, Span, Stage, Word
from harness.benchmark import validate_options


class Files(harness.Options):
    """Fields that accept only some paths or numbers, or a union of types."""

    file: FilePath | None = None
    size: PositiveInt = 1
    auto: Literal["auto"] | Path = "auto"
    share: float | Decimal = 0.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"folder": "data"}, {"folder": Path("data")}),
        ({"folders": ["a", "~/b"]}, {"folders": (Path("a"), Path("~/b"))}),
        ({"day": "2020-02-29"}, {"day": date(2020, 2, 29)}),
        ({"timestamp": "2020-01-01T10:00:00Z"}, {"timestamp": datetime(2020, 1, 1, 10, tzinfo=UTC)}),
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
)
def test_types_from_a_file(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """A value from a file is converted to the type of its field."""
    options, issues = validate_options(AllTypes, given)
    assert issues == []
    assert options == AllTypes(**expected)


def test_paths_and_unions_from_a_file(tmp_path: Path) -> None:
    """A `FilePath` must exist; a value that is a literal of a union is not read as a path."""
    (tmp_path / "there").write_text("")
    options, issues = validate_options(Files, {"file": str(tmp_path / "there"), "auto": "auto", "share": 0.25})
    assert issues == []
    assert (options.file, options.auto, options.share) == (tmp_path / "there", "auto", 0.25)
    options, issues = validate_options(Files, {"auto": "data"})
    assert issues == []
    assert options.auto == Path("data")
    options, [issue] = validate_options(Files, {"file": "nowhere"})
    assert options is None
    assert issue.text == "'nowhere' is not allowed; a path or null"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"folder": 3}, "3 is not allowed; a path"),
        ({"day": "2020-02-30"}, "'2020-02-30' is not a date; a date such as '2026-01-31'"),
        ({"day": 20200101}, "20200101 is not a date; a date such as '2026-01-31'"),
        ({"timestamp": "noon"}, "'noon' is not a date and time; a date and time such as '2026-01-31T12:00:00'"),
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
def test_types_refused_from_a_file(given: dict[str, Any], problem: str) -> None:
    """The error is one line with the value and what is allowed."""
    options, [issue] = validate_options(AllTypes, given)
    assert options is None
    assert issue.text == problem
