"""Curve styles, labels and sizes of figures."""

from __future__ import annotations

import math

import pytest

from harness import drawing


def test_styles_of_many_curves() -> None:
    """Forty methods have different styles, and so have twenty fork epochs of one method."""
    assert len({drawing.curve_style(number) for number in range(40)}) == 40
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
def test_labels_with_special_characters(text: str, shown: str) -> None:
    """A label is one printable line of at most 48 characters, and matplotlib does not hide it for its underscore."""
    assert drawing.label(text) == shown


@pytest.mark.parametrize(
    ("number", "fits"), [(math.nan, False), (math.inf, False), (-math.inf, False), (1e300, False), (-1e6, True)]
)
def test_numbers_on_an_axis(number: float, fits: bool) -> None:
    """NaN, infinities and numbers whose sum would overflow do not fit on an axis."""
    assert drawing.fits_an_axis(number) == fits


def test_height_of_a_figure_with_a_legend() -> None:
    """Two entries fit into the smallest height; twenty make the figure higher."""
    assert drawing.height(3.7, 2) == 3.7
    assert drawing.height(3.7, 20) == pytest.approx(4.35)
