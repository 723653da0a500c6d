"""The building blocks for figures."""

from __future__ import annotations

import math

import pytest

from harness import drawing


def test_a_curve_looks_alike_in_every_figure_and_unlike_the_others() -> None:
    """Forty methods can be told apart, and of one method twenty fork epochs."""
    assert len({drawing.curve_style(i) for i in range(40)}) == 40
    assert len({drawing.curve_style(3, step) for step in range(20)}) == 20


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("deep", "deep"),
        ("_private", " _private"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("x" * 60, "x" * 47 + "…"),
    ],
)
def test_labels_are_short_and_steer_nothing(text: str, shown: str) -> None:
    """One line, at most 48 characters, and a legend does not pass over it."""
    assert drawing.label(text) == shown


def test_numbers_that_no_axis_can_show() -> None:
    """NaN, infinity, and what overflows when it is added."""
    assert not any(map(drawing.fits_an_axis, (math.nan, math.inf, -math.inf, 1e300)))
    assert drawing.fits_an_axis(-1e6)


def test_height_grows_with_the_legend() -> None:
    """Two entries fit into the least height, twenty do not."""
    assert drawing.height(3.7, 2) == 3.7
    assert drawing.height(3.7, 20) == pytest.approx(4.35)
