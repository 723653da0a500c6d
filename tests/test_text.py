"""Errors in messages: one line each, whatever raised them."""

from __future__ import annotations

import pytest

from harness import schedules
from harness.text import describe_error


def caught(make: object) -> BaseException:
    """Return what a call raises."""
    try:
        make()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Constant(rate=-1.0), "ValidationError: Constant.rate: Input should be greater than or equal to 0"),
        (
            lambda: schedules.Triangular(high=0.1, low=0.2, cycle=2),
            "ValidationError: Triangular: Value error, low is 0.2 and high is 0.1; low must not be above high",
        ),
        (lambda: int("x"), "ValueError: invalid literal for int() with base 10: 'x'"),
        (lambda: [][1], "IndexError: list index out of range"),
    ],
    ids=["range", "validator", "Python's", "index"],
)
def test_error_is_one_line_with_its_place(make: object, message: str) -> None:
    """Type, message, file and line; of pydantic's errors the first problem, without links."""
    line = describe_error(caught(make))
    assert line.startswith(message)
    assert line.endswith(")")
    assert "\n" not in line
    assert "http" not in line
