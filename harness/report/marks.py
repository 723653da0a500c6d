"""Where a drawn figure shows which values: what the page needs to show them on hover and to hide a series.

The marks are read from the artists that `Plot.paint` has drawn, so they need no word of the figure and agree with the picture.
Artists belong to a series by their label, by the legend, or by a color that one series alone has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.text import plain_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MAX_POINTS = 4000  # of a figure; of more, some are left out
_MAX_CELLS = 2500  # of an image
_DIGITS = 4


@dataclass
class _Series:
    """Artists that are shown and hidden together. `ids` are theirs, `keys` those of the legend's entry."""

    name: str
    color: str
    ids: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Drawn:
    """An artist, or the artists of a container, with data coordinates (points, 2) and a text per coordinate, or none.

    `errors` holds the text of the error of x and of y for each point; empty without errors.
    """

    axes: Axes
    artists: tuple[Artist, ...]
    label: str
    style: tuple[object, ...]
    data: np.ndarray
    errors: tuple[tuple[str, str], ...] = ()
    values: tuple[str, ...] = ()  # of an image's cells


class FigureMarks:
    """The marks of one figure. Call `tag` after the figure is painted, and `locate` after it is saved."""

    def __init__(self) -> None:
        self._drawn: list[_Drawn] = []
        self._series: dict[str, _Series] = {}
        self._series_of: list[str] = []  # of each of `_drawn`; "" if none
        self._content: dict[str, object] = {}
        self._tags = 0

    def tag(self, canvas: Canvas) -> None:
        """Find the series of a painted figure, and give their artists ids, which become those of the SVG's elements."""
        for axes in canvas.axes:
            self._drawn += _drawn(axes)
        by_style: dict[tuple[object, ...], str] = {}
        for item in self._drawn:
            if _is_name(item.label):
                by_style.setdefault(item.style, item.label)
                self._add(item.label, item.style)
        for axes in canvas.axes:
            self._tag_legend(axes, by_style)
        by_color = _unique_colors(by_style)
        for item in self._drawn:
            name = item.label if _is_name(item.label) else by_style.get(item.style) or by_color.get(item.style[0]) or ""
            self._series_of.append(name)
            if name:
                self._series[name].ids += [self._tag(artist) for artist in item.artists]
        for axes in canvas.axes:
            self._tag_rest(axes, by_color)

    def locate(self, canvas: Canvas) -> None:
        """Compute where the points are, as shares of the figure's width and height from its upper left corner."""
        names = list(self._series)
        panels = [_panel(axes) for axes in canvas.axes]
        total = sum(len(item.data) for item in self._drawn)
        step = 1 + total // _MAX_POINTS
        points: list[list[object]] = []
        for item, name in zip(self._drawn, self._series_of):
            number = canvas.axes.index(item.axes)
            series = names.index(name) if name else -1
            points += _points(canvas, item, number, series, step)
        self._content = {
            "panels": panels,
            "series": [vars(series) for series in self._series.values()],
            "points": points,
        }

    def to_json(self) -> str:
        """Return panels, series and points. A point is [panel, series or -1, left, top, x, y, value or absent]."""
        return json.dumps(self._content, separators=(",", ":"))

    def _add(self, name: str, style: Sequence[object]) -> None:
        self._series.setdefault(name, _Series(plain_line(name), str(style[0])))

    def _tag(self, artist: Artist) -> str:
        """Give an artist an id of its own, and return it."""
        self._tags += 1
        name = f"mark-{self._tags}"
        artist.set_gid(name)
        return name

    def _tag_legend(self, axes: Axes, by_style: dict[tuple[object, ...], str]) -> None:
        """Make a series of each entry of a legend."""
        legend = axes.get_legend()
        if legend is None:
            return
        for handle, text in zip(legend.legend_handles, legend.get_texts()):
            style = _style_of(handle)
            name = text.get_text()
            if style is None or not _is_name(name):
                continue
            known = by_style.setdefault(style, name)
            self._add(known, style)
            self._series[known].keys += [self._tag(handle), self._tag(text)]

    def _tag_rest(self, axes: Axes, by_color: Mapping[object, str]) -> None:
        """Add texts and areas to the series whose color they have."""
        for artist in (*axes.texts, *axes.collections, *axes.patches):
            if artist.get_gid() is not None:
                continue
            style = _style_of(artist)
            name = by_color.get(style[0]) if style is not None else None
            if name:
                self._series[name].ids.append(self._tag(artist))


def _is_name(label: object) -> bool:
    """Return whether a label names a series: matplotlib's own begin with an underscore."""
    return isinstance(label, str) and bool(label) and not label.startswith("_")


def _unique_colors(by_style: Mapping[tuple[object, ...], str]) -> dict[object, str]:
    """Return the series by color, for colors that one series alone has."""
    names: dict[object, set[str]] = {}
    for style, name in by_style.items():
        names.setdefault(style[0], set()).add(name)
    return {color: min(found) for color, found in names.items() if len(found) == 1}


def _drawn(axes: Axes) -> Iterator[_Drawn]:
    """Yield what an axes shows of data: error bars, bars, lines, points and images."""
    from matplotlib.collections import PathCollection, QuadMesh

    inside: set[Artist] = set()
    for container in axes.containers:
        item = _container(axes, container)
        if item is not None:
            inside.update(item.artists)
            yield item
    for line in axes.lines:
        if line not in inside and line.get_transform() == axes.transData:
            style = _style_of(line) or ()
            yield _Drawn(axes, (line,), str(line.get_label()), style, np.ma.filled(line.get_xydata(), math.nan))
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            style = _style_of(collection) or ()
            offsets = np.ma.filled(np.ma.asarray(collection.get_offsets(), dtype=float), math.nan)
            yield _Drawn(axes, (collection,), str(collection.get_label()), style, offsets)
        elif isinstance(collection, QuadMesh):
            yield from _cells(axes, collection, collection.get_coordinates(), collection.get_array())
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        values = np.ma.asarray(image.get_array())
        if values.ndim == 2:
            rows, columns = values.shape
            first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
            grid = np.stack(np.meshgrid(np.linspace(left, right, columns + 1), np.linspace(first, last, rows + 1)), axis=-1)
            yield from _cells(axes, image, grid, values)


def _container(axes: Axes, container: Any) -> _Drawn | None:
    """Return error bars or bars; None for other containers, and for error bars without a line."""
    from matplotlib.container import BarContainer, ErrorbarContainer

    label = str(container.get_label())
    if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
        line, caps, bars = container.lines
        data = np.ma.filled(line.get_xydata(), math.nan)
        errors = _errors(container, bars, len(data))
        if not _is_name(label):
            label = str(line.get_label())
        return _Drawn(axes, (line, *caps, *bars), label, _style_of(line) or (), data, errors)
    if isinstance(container, BarContainer) and container.patches:
        ends = []
        for bar in container.patches:
            x, y, width, height = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
            horizontal = container.orientation == "horizontal"
            ends.append((x + width, y + height / 2) if horizontal else (x + width / 2, y + height))
        return _Drawn(axes, tuple(container.patches), label, _style_of(container.patches[0]) or (), np.array(ends, dtype=float))
    return None


def _errors(container: Any, bars: Sequence[Any], count: int) -> tuple[tuple[str, str], ...]:
    """Return the errors of each point as texts; none if a bar is missing."""
    texts: list[list[str]] = []
    remaining = list(bars)
    for axis, has_error in enumerate((container.has_xerr, container.has_yerr)):
        column = [""] * count
        segments = remaining.pop(0).get_segments() if has_error and remaining else []
        if len(segments) == count:
            column = []
            for segment in segments:
                length = abs(float(segment[-1][axis] - segment[0][axis])) / 2
                column.append(f" ± {_number(length)}" if math.isfinite(length) else "")
        texts.append(column)
    return tuple(zip(*texts))


def _cells(axes: Axes, artist: Artist, grid: np.ndarray, values: Any) -> Iterator[_Drawn]:
    """Yield the centers of an image's cells with their values; `grid` holds the corners, (rows + 1, columns + 1, 2)."""
    if values is None or grid.shape[0] < 2 or values.size > _MAX_CELLS or values.size != (grid.shape[0] - 1) * (grid.shape[1] - 1):
        return
    centers = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    flat = np.ma.filled(np.ma.asarray(values, dtype=float), math.nan).ravel()
    texts = tuple(_number(value) for value in flat.tolist())
    yield _Drawn(axes, (artist,), "", ("",), centers.reshape(-1, 2), values=texts)


def _style_of(artist: Any) -> tuple[object, ...] | None:
    """Return what tells series apart: color, marker and line style. None for an artist without a color."""
    from matplotlib.colors import to_hex

    if isinstance(artist, tuple) and artist:
        artist = artist[0]
    for getter in ("get_color", "get_facecolor", "get_edgecolor"):
        if not hasattr(artist, getter):
            continue
        color: Any = getattr(artist, getter)()
        if not isinstance(color, str) and np.ndim(color) == 2:
            color = color[0] if len(color) else None
        if color is None or (isinstance(color, str) and color == "none"):
            continue
        marker = str(artist.get_marker()) if hasattr(artist, "get_marker") else ""
        line = str(artist.get_linestyle()) if hasattr(artist, "get_marker") else ""
        return to_hex(color), marker, line
    return None


def _panel(axes: Axes) -> dict[str, object]:
    """Return the names of an axes' directions. The title stands for the name of a y axis without a label."""
    title = axes.get_title(loc="left") or axes.get_title()
    return {"x": plain_line(axes.get_xlabel()), "y": plain_line(axes.get_ylabel() or title), "title": plain_line(title)}


def _points(canvas: Canvas, item: _Drawn, panel: int, series: int, step: int) -> list[list[object]]:
    """Return every `step`-th point of an artist that lies within its axes."""
    if not len(item.data):
        return []
    with np.errstate(all="ignore"):
        shares = canvas.transFigure.inverted().transform(item.axes.transData.transform(item.data))
    box = item.axes.get_position()
    names_x, names_y = _tick_names(item.axes.xaxis), _tick_names(item.axes.yaxis)
    points: list[list[object]] = []
    for index in range(0, len(item.data), step):
        left, bottom = shares[index].tolist()
        if not (box.x0 - 0.01 <= left <= box.x1 + 0.01 and box.y0 - 0.01 <= bottom <= box.y1 + 0.01):
            continue  # not finite, or outside
        x, y = item.data[index].tolist()
        error_x, error_y = item.errors[index] if item.errors else ("", "")
        texts = [names_x.get(x, _number(x)) + error_x, names_y.get(y, _number(y)) + error_y]
        point = [panel, series, round(left, 5), round(1 - bottom, 5), *texts]
        points.append(point + [item.values[index]] if item.values else point)
    return points


def _tick_names(axis: Any) -> dict[float, str]:
    """Return the labels of ticks that are words, by position: those of categories."""
    names = {}
    for position, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels()):
        text = plain_line(label.get_text())
        if any(character.isalpha() for character in text):
            names[float(position)] = text
    return names


def _number(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:.{_DIGITS}g}".replace("-", "−")
