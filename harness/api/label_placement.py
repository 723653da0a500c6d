"""Labels beside points and at the ends of curves, placed so that they do not overlap.

Both functions lay out the picture first, to know where its points are and how large its letters are. Call them last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation, Text

_DISTANCES = (6.0, 14.0, 26.0, 42.0, 62.0)  # of a label from its point, in points (1/72 inch)
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))
_WITH_LINE = 20.0  # points beyond which a line joins a label to its point
_GAP = 1.5  # points between labels
_STEPS = 40  # along a line
_MARKER = 4.0  # points around a marker that labels leave free


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)


def box_of(axes: Axes) -> Box:
    """Return the rectangle that axes take with the numbers at their ticks."""
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    canvas.draw_without_rendering()
    box = axes.get_tightbbox()
    assert box is not None
    return Box(*box.extents)


def along(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Return positions on a line that are close enough to each other to keep labels from it; one if it has no length."""
    if start == end:
        return [start]
    positions = []
    for step in range(_STEPS + 1):
        share = step / _STEPS
        positions.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
    return positions


class _Place(NamedTuple):
    """The place of a label: the offset of its middle from its point, in points, whether a line joins them, its rectangle."""

    x: float
    y: float
    joined: bool
    box: Box


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colors: Sequence[str],
    *,
    obstacles: Sequence[tuple[float, float]] = (),
    boxes: Sequence[Box] = (),
    size: float = 7.5,
) -> list[Annotation]:
    """Write a text beside each point, in data coordinates; return the texts that found room.

    A text takes the first of several positions at which it is inside the axes and covers no other text, point, obstacle (in
    data coordinates) or box (in pixels). A line joins a text to a point that is not beside it. Texts without such a position
    are left out: a caller with many points has a legend, too.
    """
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    canvas.draw_without_rendering()
    pixel = canvas.dpi / 72
    frame = Box(*axes.get_window_extent().extents)
    taken = list(boxes)
    marked = [*points, *obstacles]
    if not marked:
        return []
    for x, y in axes.transData.transform(marked):
        taken.append(Box(x - _MARKER * pixel, y - _MARKER * pixel, x + _MARKER * pixel, y + _MARKER * pixel))
    markers = len(taken)
    placed = []
    for point, text, color in zip(points, texts, colors, strict=True):
        center = tuple(axes.transData.transform(point))
        found = _position(center, _size(axes, text, size), pixel, frame, taken, taken[markers:])
        if found is not None:
            taken += [found.box, *_leader(center, found)]
            placed.append(_annotate(axes, text, point, found, color, size))
    return placed


def label_curves(
    axes: Axes, ends: Sequence[float], texts: Sequence[str], colors: Sequence[str], size: float = 8.0
) -> list[Text]:
    """Write a text at the right of the axes for each curve, at the height of its end or next to it; return the texts.

    `ends` are the last values of the curves. Texts keep the order of the ends and do not overlap, as long as all of them are no
    higher than the axes. Callers use a legend for more than ten curves.
    """
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    drawn = []
    for content, color in zip(texts, colors, strict=True):
        drawn.append(axes.text(1.015, 0.5, content, color=color, fontsize=size, va="center", transform=axes.transAxes))
    canvas.draw_without_rendering()
    frame = Box(*axes.get_window_extent().extents)
    pixels = [axes.transData.transform((0.0, end))[1] for end in ends]
    wanted = [(pixel - frame.bottom) / (frame.top - frame.bottom) for pixel in pixels]
    line = (max((text.get_window_extent().height for text in drawn), default=0.0) + _GAP) / (frame.top - frame.bottom)
    for text, place in zip(drawn, spread(wanted, line), strict=True):
        text.set_y(place)
    return drawn


def spread(wanted: Sequence[float], distance: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Return places in the order of the wanted ones, at least `distance` apart, and as near to them as possible.

    They are between `low` and `high` if they fit there, and evenly spaced around the middle otherwise. The sum of squared
    moves is the smallest (isotonic regression by pooling adjacent violators).
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    shifted = [min(max(wanted[index], low), high) - rank * distance for rank, index in enumerate(order)]
    fitted = _isotonic(shifted)
    room = high - low - distance * (len(wanted) - 1)
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        if room >= 0:
            place = min(max(fitted[rank], low), low + room)
        else:
            place = low + room / 2
        places[index] = place + rank * distance
    return places


def _isotonic(values: Sequence[float]) -> list[float]:
    """Return the nondecreasing sequence that is nearest to values."""
    blocks: list[list[float]] = []  # mean and length
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, length = blocks.pop()
            before, count = blocks.pop()
            blocks.append([(before * count + mean * length) / (count + length), count + length])
    fitted: list[float] = []
    for mean, length in blocks:
        fitted += [mean] * int(length)
    return fitted


def _size(axes: Axes, text: str, size: float) -> tuple[float, float]:
    """Return width and height of a text, in pixels."""
    drawn = axes.text(0.5, 0.5, text, fontsize=size, transform=axes.transAxes)
    box = drawn.get_window_extent()
    drawn.remove()
    return float(box.width), float(box.height)


def _position(
    center: tuple[float, ...],
    size: tuple[float, float],
    pixel: float,
    frame: Box,
    taken: Sequence[Box],
    labels: Sequence[Box],
) -> _Place | None:
    """Return the first free position of a label. A line to its point may cross markers, but none of the labels."""
    width, height = size
    gap = _GAP * pixel
    for distance, (right, up) in itertools.product(_DISTANCES, _DIRECTIONS):
        x = center[0] + right * (distance * pixel + width / 2)
        y = center[1] + up * (distance * pixel + height / 2)
        box = Box(x - width / 2 - gap, y - height / 2 - gap, x + width / 2 + gap, y + height / 2 + gap)
        inside = box.left >= frame.left and box.right <= frame.right and box.bottom >= frame.bottom and box.top <= frame.top
        if not inside or any(box.overlap(other) for other in taken):
            continue
        place = _Place((x - center[0]) / pixel, (y - center[1]) / pixel, distance > _WITH_LINE, box)
        if not any(part.overlap(other) for part in _leader(center, place) for other in labels):
            return place
    return None


def _leader(center: tuple[float, ...], place: _Place) -> list[Box]:
    """Return small rectangles along the line from a point to its label; none if they are not joined."""
    if not place.joined:
        return []
    x, y = (place.box.left + place.box.right) / 2, (place.box.bottom + place.box.top) / 2
    return [Box(a - 1, b - 1, a + 1, b + 1) for a, b in along((center[0], center[1]), (x, y))]


def _annotate(axes: Axes, text: str, point: tuple[float, float], place: _Place, color: str, size: float) -> Annotation:
    """Write a text at a place."""
    arrow = None
    if place.joined:
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": 3.0}
    drawn = axes.annotate(
        text,
        point,
        (place.x, place.y),
        textcoords="offset points",
        fontsize=size,
        color=color,
        ha="center",
        va="center",
        arrowprops=arrow,
    )
    drawn.set_in_layout(False)
    return drawn
