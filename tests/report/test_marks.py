"""Marks of figures: which values a picture shows where, and which of its parts belong to a series."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Plot
from harness.report.rendering import inline_svg


def drawn(paint: Callable[[Any], object]) -> tuple[dict[str, Any], str]:
    """Return the marks of a figure and its SVG."""
    svg = inline_svg(Plot("Title", "Caption.", ("n",), ((1,),), paint), "name")
    (attribute,) = re.findall(r'data-marks="([^"]*)"', svg)
    return json.loads(html.unescape(attribute)), svg


def texts(marks: dict[str, Any]) -> list[list[str]]:
    """Return the texts of each point: x, y and, for images, the value."""
    return [point[4:] for point in marks["data"]]


def test_labeled_lines() -> None:
    """Each label is a series, with its points in order, its color, and an id of an element of the picture."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot([1, 2], [3.14159, -2e-5], label="deep", color="#33658a")
        axes.plot([1], [1], "s", label="swe", color="#c8553d")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")

    marks, svg = drawn(paint)
    assert [(series["name"], series["color"]) for series in marks["series"]] == [("deep", "#33658a"), ("swe", "#c8553d")]
    assert [point[:2] for point in marks["data"]] == [[0, 0], [0, 0], [0, 1]]
    assert texts(marks) == [["1", "3.142"], ["2", "−2e−05"], ["1", "1"]]
    assert marks["panels"] == [{"x": "epoch", "y": "loss", "value": ""}]
    for series in marks["series"]:
        for name in series["ids"]:
            assert svg.count(f'id="name-{name}"') == 1


def test_positions() -> None:
    """They are those of the SVG's markers."""

    def paint(canvas: Any) -> None:
        left, right = canvas.subplots(1, 2)
        left.plot([1, 2, 5], [3, 1, 2], "o", label="a")
        right.set_yscale("log")
        right.plot([1, 2, 5], [10, 1000, 1], "s", label="b")
        right.set_ylabel("a long label that the layout makes room for")

    marks, svg = drawn(paint)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    for series in marks["series"]:
        (group,) = re.findall(rf'<g id="name-{series["ids"][0]}">(.*?)</g>\s*</g>', svg, re.DOTALL)
        markers = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', group)]
        points = [point for point in marks["data"] if marks["series"][point[1]] is series]
        assert [(point[2] * width, point[3] * height) for point in points] == [pytest.approx(m, abs=0.01) for m in markers]
        assert len(points) == 3


def test_error_bars() -> None:
    """The values have their errors: ± where both sides are equal, else the range."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.errorbar([1, 2], [10, 20], yerr=[0.5, 0.25], xerr=[0.1, 0.2], label="both")
        axes.errorbar([1.5], [15], yerr=[[1], [2]], label="range")

    marks, _ = drawn(paint)
    assert texts(marks) == [["1 ± 0.1", "10 ± 0.5"], ["2 ± 0.2", "20 ± 0.25"], ["1.5", "15 (14 to 17)"]]
    assert [len(series["ids"]) for series in marks["series"]] == [7, 4]  # line, caps and bars


def test_legend_of_unlabeled_artists() -> None:
    """Artists belong to the entry whose color, marker and line style they have; the entry is part of the series."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        first = axes.plot([0], [1], "o-", color="#33658a")
        second = axes.plot([1], [1], "s--", color="#33658a")
        axes.plot([2], [1], "s--", color="#33658a")
        axes.legend([*first, *second], ["deep", "swe"])

    marks, svg = drawn(paint)
    assert [point[1] for point in marks["data"]] == [0, 1, 1]
    for series in marks["series"]:
        assert len(series["keys"]) == 2
        for name in series["keys"]:
            assert f'id="name-{name}"' in svg


def test_texts_and_areas_of_a_color() -> None:
    """They belong to the series that alone has their color."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot([0, 1], [1, 1], color="#c8553d", label="swe")
        axes.fill_between([0, 1], [0, 0], [2, 2], color="#c8553d", alpha=0.2)
        axes.annotate("swe", (1, 1), color="#c8553d")
        axes.annotate("other", (1, 1), color="#222222")

    marks, _ = drawn(paint)
    assert len(marks["series"][0]["ids"]) == 3


def test_bars_of_categories() -> None:
    """The text of a coordinate with a named tick is the name."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.barh(["deep", "<b>swe</b>"], [1.5, 2.5])
        axes.set_xlabel("error (%)")

    marks, _ = drawn(paint)
    assert texts(marks) == [["1.5", "deep"], ["2.5", "<b>swe</b>"]]


@pytest.mark.parametrize("kind", ["imshow", "pcolormesh"])
def test_images(kind: str) -> None:
    """Each cell has its value, named by the color bar, which itself has no values."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        image = getattr(axes, kind)(np.array([[1.0, 2.0], [3.0, np.nan]]))
        canvas.colorbar(image, ax=axes, label="barrier (%)")

    marks, _ = drawn(paint)
    assert [point[2] for point in texts(marks)] == ["1", "2", "3", "nan"]
    assert [panel["value"] for panel in marks["panels"]] == ["barrier (%)"]


def test_large_image() -> None:
    """It has no values on hover."""
    marks, _ = drawn(lambda canvas: canvas.subplots().imshow(np.zeros((51, 50))))
    assert marks["data"] == []


def test_inset() -> None:
    """Its points are there too, at their places in the inset."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot([0, 10], [0, 10], label="deep")
        inset = axes.inset_axes((0.6, 0.1, 0.3, 0.3))
        inset.plot([0, 10], [0, 10], label="deep")

    marks, _ = drawn(paint)
    assert [point[0] for point in marks["data"]] == [0, 0, 1, 1]
    assert marks["data"][2][2] > 0.5
    assert len(marks["series"]) == 1


def test_values_that_are_not_shown() -> None:
    """NaN, infinite and masked values and those beyond the axes have no mark; lines across the axes have none either."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot([1, 2, 3], [1, np.nan, np.inf], label="a")
        axes.scatter(np.ma.masked_equal([1, 2], 2), [1, 1], label="b")
        axes.plot([1, 99], [1, 1], label="c")
        axes.axhline(1)
        axes.set_xlim(0, 4)

    marks, _ = drawn(paint)
    assert texts(marks) == [["1", "1"]] * 3


def test_many_points() -> None:
    """Of more than 4,000, every second, third, … is kept."""
    marks, _ = drawn(lambda canvas: canvas.subplots().plot(np.arange(9000), np.zeros(9000)))
    assert len(marks["data"]) == 3000
    assert marks["series"] == []


def test_labels_of_matplotlib_and_of_strangers() -> None:
    """Labels that begin with an underscore name no series; names are on one line, without control characters."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot([1], [1], label="_nolegend_")
        axes.plot([1], [1], label="\"'><script>\n\x1b\u202e")

    marks, svg = drawn(paint)
    assert [series["name"] for series in marks["series"]] == ["\"'><script> \ufffd"]
    assert "<script" not in svg


def test_figure_without_data() -> None:
    """It has no marks."""
    assert drawn(lambda canvas: None)[0] == {"panels": [], "series": [], "data": []}
