"""Labels beside points and at the ends of curves: no two of them overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness import drawing
from harness.api.label_placement import Box, spread


def picture(width: float = 7.6) -> tuple:
    """Return an empty picture and its axes."""
    canvas = Figure(figsize=(width, 3.7), layout="constrained")
    return canvas, canvas.subplots()


def boxes_of(canvas, texts) -> list[Box]:
    """Return the rectangles of texts as they are drawn at last, without the lines that join them to their points.

    A line may pass a text whose rectangle overlaps that around the whole line.
    """
    canvas.draw_without_rendering()
    return [Box(*Text.get_window_extent(text).extents) for text in texts]


def overlaps(boxes) -> float:
    """Return the largest area that two rectangles share."""
    return max((a.overlap(b) for a, b in itertools.combinations(boxes, 2)), default=0.0)


@pytest.mark.parametrize("width", [3.25, 7.6])
def test_labels_of_crowded_points(width: float) -> None:
    """Labels overlap neither each other nor a point, and stay inside the axes; those without room are left out."""
    canvas, axes = picture(width)
    points = [(0.1 * i % 1, 0.01 * (i % 3)) for i in range(10)]
    axes.plot(*zip(*points), "o")
    axes.margins(0.3, 2.0)
    placed = drawing.label_points(axes, points, [f"method_{i}" for i in range(10)], ["#000000"] * 10)
    boxes = boxes_of(canvas, placed)
    assert len(boxes) >= 3
    assert overlaps(boxes) == 0
    frame = Box(*axes.get_window_extent().extents)
    for box in boxes:
        assert frame.left <= box.left
        assert box.right <= frame.right
        for x, y in axes.transData.transform(points):
            assert not (box.left < x < box.right and box.bottom < y < box.top)


LINE_PAST_A_TEXT = [(0.5, 0.671), (0.595, 0.5), (0.5, 0.023), (0.5, 0.5), (1.0, 0.5), (1.0, 0.5), (0.468, 0.0), (1.0, 0.0)]
LINE_PAST_A_TEXT += [(0.5, 0.0), (0.5, 0.5), (0.5, 0.0)]
"""Points of which one has a label with a line that passes another label; the rectangle around both is no measure."""


@settings(deadline=None, max_examples=15)
@example(LINE_PAST_A_TEXT, 29)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12), st.integers(1, 30))
def test_labels_of_any_points(points: list[tuple[float, float]], length: int) -> None:
    """This holds for any points, also equal ones, and any lengths of names."""
    canvas, axes = picture()
    axes.plot(*zip(*points), "o")
    texts = ["x" * (1 + (length * i) % 30) for i in range(len(points))]
    placed = drawing.label_points(axes, points, texts, ["#000000"] * len(points))
    assert overlaps(boxes_of(canvas, placed)) == 0


def test_labels_keep_away_from_obstacles() -> None:
    """No label covers a position along a line, or a given rectangle."""
    canvas, axes = picture()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    line = drawing.along((0.0, 0.5), (1.0, 0.5))
    canvas.draw_without_rendering()
    frame = Box(*axes.get_window_extent().extents)
    above = Box(frame.left, (frame.bottom + frame.top) / 2, frame.right, frame.top)
    placed = drawing.label_points(axes, [(0.5, 0.5)], ["name"], ["#000000"], obstacles=line, boxes=[above])
    (box,) = boxes_of(canvas, placed)
    assert box.overlap(above) == 0
    assert not any(box.bottom < y < box.top for _, y in axes.transData.transform(line))


def test_no_points() -> None:
    """There is nothing to place."""
    assert drawing.label_points(picture()[1], [], [], []) == []


@pytest.mark.parametrize("ends", [[0.5] * 8, [0.0, 0.0, 1.0, 1.0], [0.2, 0.21, 0.9], [0.99, 1.0, 1.0]])
def test_labels_at_the_ends_of_curves(ends: list[float]) -> None:
    """They do not overlap, keep the order of the ends and are beside the axes."""
    canvas, axes = picture()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    texts = drawing.label_curves(axes, ends, [f"curve {i}" for i in range(len(ends))], ["#000000"] * len(ends))
    boxes = boxes_of(canvas, texts)
    assert overlaps(boxes) == 0
    frame = Box(*axes.get_window_extent().extents)
    assert all(box.left >= frame.right for box in boxes)
    for (a, first), (b, second) in itertools.combinations(zip(ends, boxes), 2):
        if a < b:
            assert first.bottom < second.bottom


class TestSpread:
    @given(st.lists(st.floats(-1, 2), max_size=8), st.floats(0.01, 0.1))
    def test_distances_and_limits(self, wanted: list[float], distance: float) -> None:
        """Places are far enough apart, inside the limits, and in the order of the wanted ones."""
        places = spread(wanted, distance)
        in_order = sorted(places)
        assert all(b - a >= distance - 1e-9 for a, b in itertools.pairwise(in_order))
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
        for i, j in itertools.combinations(range(len(wanted)), 2):
            if wanted[i] < wanted[j]:
                assert places[i] < places[j]

    def test_places_that_are_far_apart_stay(self) -> None:
        """Nothing moves without need."""
        np.testing.assert_allclose(spread([0.9, 0.1, 0.5], 0.1), [0.9, 0.1, 0.5])

    def test_two_at_one_place_move_equally(self) -> None:
        """Each moves by half of the distance."""
        np.testing.assert_allclose(spread([0.5, 0.5], 0.2), [0.4, 0.6])

    def test_more_than_fit(self) -> None:
        """They are evenly spaced around the middle."""
        np.testing.assert_allclose(spread([0.0] * 3, 1.0), [-0.5, 0.5, 1.5])
