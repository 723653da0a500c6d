"""What a painted figure shows of data: lines, points, error bars, bars and images, with their data coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_MAX_CELLS = 2500  # of an image
_DIGITS = 4
_ROUNDING = 1e-6  # relative: the two sides of an error bar that differ by less are equal


class Style(NamedTuple):
    """What tells series apart: color as `#rrggbb`, marker and line style. Areas and texts have a color alone."""

    color: str
    marker: str = ""
    line: str = ""


@dataclass(frozen=True)
class DrawnData:
    """An artist, or the artists of a container, with the data coordinates of its points, (points, 2).

    `label` is matplotlib's. `errors` holds the text of the error of x and of y for each point; empty without errors. `values`
    holds the text of the value of each cell of an image; empty for others.
    """

    axes: Axes
    artists: tuple[Artist, ...]
    label: str
    style: Style | None
    data: np.ndarray
    errors: tuple[tuple[str, str], ...] = ()
    values: tuple[str, ...] = ()


def drawn_data(axes: Axes) -> Iterator[DrawnData]:
    """Yield what an axes shows of data: error bars and bars first, then lines, points and images."""
    in_containers: set[Artist] = set()
    for container in axes.containers:
        item = _of_container(axes, container)
        if item is not None:
            in_containers.update(item.artists)
            yield item
    for line in axes.lines:
        if line not in in_containers and line.get_transform() == axes.transData:
            yield DrawnData(axes, (line,), str(line.get_label()), style_of(line), _floats(line.get_xydata()))
    yield from _of_collections(axes)
    for image in axes.images:
        yield from _of_image(axes, image)


def is_name(label: object) -> bool:
    """Return whether a label names a series: those that matplotlib makes up begin with an underscore."""
    return isinstance(label, str) and bool(label) and not label.startswith("_")


def style_of(artist: Any) -> Style | None:
    """Return an artist's style; None without a color. Of an artist with several colors, the first counts."""
    from matplotlib.colors import to_hex

    for getter in ("get_color", "get_facecolor", "get_edgecolor"):
        if not hasattr(artist, getter):
            continue
        color: Any = getattr(artist, getter)()
        if not isinstance(color, str) and np.ndim(color) == 2:
            color = color[0] if len(color) else "none"
        if isinstance(color, str) and color == "none":
            continue
        if hasattr(artist, "get_marker"):
            return Style(to_hex(color), str(artist.get_marker()), str(artist.get_linestyle()))
        return Style(to_hex(color))
    return None


def format_value(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:.{_DIGITS}g}".replace("-", "−")


def _floats(values: Any) -> np.ndarray:
    """Return numbers as float64, with NaN for masked ones."""
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), math.nan)


def _of_collections(axes: Axes) -> Iterator[DrawnData]:
    """Yield the points of scatter plots and the cells of meshes."""
    from matplotlib.collections import PathCollection, QuadMesh

    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            offsets = _floats(collection.get_offsets())
            yield DrawnData(axes, (collection,), str(collection.get_label()), style_of(collection), offsets)
        elif isinstance(collection, QuadMesh):
            yield from _of_cells(axes, collection, np.asarray(collection.get_coordinates()))


def _of_image(axes: Axes, image: Any) -> Iterator[DrawnData]:
    """Yield the cells of an image of numbers."""
    values = np.ma.asarray(image.get_array())
    if values.ndim != 2:
        return
    left, right, bottom, top = image.get_extent()
    first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
    rows, columns = values.shape
    corners = np.empty((rows + 1, columns + 1, 2))
    corners[..., 0] = np.linspace(left, right, columns + 1)
    corners[..., 1] = np.linspace(first, last, rows + 1)[:, np.newaxis]
    yield from _of_cells(axes, image, corners)


def _of_cells(axes: Axes, artist: Any, corners: np.ndarray) -> Iterator[DrawnData]:
    """Yield the centers of cells with their values; `corners` are (rows + 1, columns + 1, 2)."""
    values: Any = artist.get_array()
    cells = (corners.shape[0] - 1) * (corners.shape[1] - 1)
    if values is None or values.size != cells or not 0 < cells <= _MAX_CELLS:
        return
    centers = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
    texts = tuple(format_value(value) for value in _floats(values).ravel().tolist())
    yield DrawnData(axes, (artist,), "", None, _floats(centers.reshape(-1, 2)), values=texts)


def _of_container(axes: Axes, container: Any) -> DrawnData | None:
    """Return error bars or bars; None for other containers, and for error bars without a line."""
    from matplotlib.container import BarContainer, ErrorbarContainer

    if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
        return _of_error_bars(axes, container)
    if isinstance(container, BarContainer) and container.patches:
        ends = [_end(bar, container.orientation == "horizontal") for bar in container.patches]
        style = style_of(container.patches[0])
        return DrawnData(axes, tuple(container.patches), str(container.get_label()), style, np.array(ends, dtype=np.float64))
    return None


def _end(bar: Any, is_horizontal: bool) -> tuple[float, float]:
    """Return the middle of the end of a bar."""
    if is_horizontal:
        return bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height() / 2
    return bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height()


def _of_error_bars(axes: Axes, container: Any) -> DrawnData:
    line, caps, bars = container.lines
    data = _floats(line.get_xydata())
    label = str(container.get_label())
    if not is_name(label):
        label = str(line.get_label())
    remaining = list(bars)
    columns = []
    for axis, has_errors in enumerate((container.has_xerr, container.has_yerr)):
        segments: Sequence[Any] = ()
        if has_errors and remaining:
            segments = remaining.pop(0).get_segments()
        columns.append(_errors(data[:, axis], segments, axis))
    return DrawnData(axes, (line, *caps, *bars), label, style_of(line), data, tuple(zip(*columns)))


def _errors(values: np.ndarray, segments: Sequence[Any], axis: int) -> list[str]:
    """Return the text of each value's error; empty texts unless each value has a bar."""
    if len(segments) != len(values):
        return [""] * len(values)
    texts = []
    for value, segment in zip(values.tolist(), segments):
        ends = sorted(float(point[axis]) for point in segment)
        text = ""
        if len(ends) == 2 and all(map(math.isfinite, ends)):
            below, above = value - ends[0], ends[1] - value
            text = f" ± {format_value(above)}"
            if abs(above - below) > _ROUNDING * max(abs(value), above, below):
                text = f" ({format_value(ends[0])} to {format_value(ends[1])})"
        texts.append(text)
    return texts
