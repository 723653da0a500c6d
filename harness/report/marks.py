"""Where a drawn figure shows which values: what the page needs to show them on hover and to hide a series.

The marks are read from the artists that `Plot.paint` has drawn. So a figure need not declare them, and they agree with the
picture. Artists belong to a series by their label, by the legend, or by a color that one series alone has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.artists import DrawnData, Style, drawn_data, format_value, is_name, style_of
from harness.text import plain_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.legend import Legend

_MAX_POINTS = 4000  # of a figure; of more, some are left out
_SLACK = 0.01  # of the figure: how far outside its axes a point may lie, as markers on the border do


@dataclass
class _Series:
    """Artists that are shown and hidden together. `ids` are theirs, `keys` those of its entry in the legend."""

    name: str
    color: str
    ids: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class FigureMarks:
    """The marks of one figure. Call `tag` after the figure is painted, and `locate` after it is saved."""

    def __init__(self) -> None:
        self._axes: list[Axes] = []
        self._drawn: list[tuple[DrawnData, str]] = []  # each with the label of its series; "" if it has none
        self._series: dict[str, _Series] = {}
        self._tags = 0
        self._points: list[list[object]] = []
        self._panels: list[dict[str, str]] = []

    def tag(self, canvas: Canvas) -> None:
        """Find the series of a painted figure, and give their artists ids, which become those of the SVG's elements."""
        self._axes = _axes_of_plots(canvas)
        found: list[DrawnData] = []
        for axes in self._axes:
            found += drawn_data(axes)
        by_style: dict[Style, str] = {}
        for item in found:
            if is_name(item.label) and item.style is not None:
                by_style.setdefault(item.style, item.label)
                self._add(item.label, item.style)
        for legend in _legends(canvas, self._axes):
            self._tag_legend(legend, by_style)
        by_color = _unique_colors(by_style)
        for item in found:
            name = _series_of(item, by_style, by_color)
            self._drawn.append((item, name))
            if name:
                self._series[name].ids += [self._tag(artist) for artist in item.artists]
        for axes in self._axes:
            self._tag_rest(axes, by_color)

    def locate(self, canvas: Canvas) -> None:
        """Compute where the points are, as shares of the figure's width and height from its upper left corner."""
        names = list(self._series)
        step = 1 + sum(len(item.data) for item, _ in self._drawn) // _MAX_POINTS
        self._panels = [_panel(axes) for axes in self._axes]
        for item, name in self._drawn:
            series = names.index(name) if name else -1
            panel = self._axes.index(item.axes)
            for left, top, *texts in _points(canvas, item, step):
                self._points.append([panel, series, left, top, *texts])

    def to_json(self) -> str:
        """Return panels, series and data as JSON.

        A point of the data is [panel, series or -1, left, top, x, y] and, of an image, the value.
        """
        series = [asdict(item) for item in self._series.values()]
        content = {"panels": self._panels, "series": series, "data": self._points}
        return json.dumps(content, separators=(",", ":"))

    def _add(self, label: str, style: Style) -> None:
        self._series.setdefault(label, _Series(plain_line(label), style.color))

    def _tag(self, artist: Any) -> str:
        """Give an artist an id of its own, and return it."""
        self._tags += 1
        name = f"mark-{self._tags}"
        artist.set_gid(name)
        return name

    def _tag_legend(self, legend: Legend, by_style: dict[Style, str]) -> None:
        """Make a series of each entry of a legend, unless its style has one."""
        for handle, text in zip(legend.legend_handles, legend.get_texts()):
            style = style_of(handle)
            if style is None or not is_name(text.get_text()):
                continue
            label = by_style.setdefault(style, text.get_text())
            self._add(label, style)
            self._series[label].keys += [self._tag(handle), self._tag(text)]

    def _tag_rest(self, axes: Axes, by_color: Mapping[str, str]) -> None:
        """Add texts and areas to the series whose color they have."""
        for artist in (*axes.texts, *axes.collections, *axes.patches):
            style = style_of(artist)
            if artist.get_gid() is None and style is not None and style.color in by_color:
                self._series[by_color[style.color]].ids.append(self._tag(artist))


def _axes_of_plots(canvas: Canvas) -> list[Axes]:
    """Return the axes of a figure and their insets, without those of color bars."""
    every = list(_all_axes(canvas.axes))
    color_bars: set[Axes] = set()
    for axes in every:
        color_bars.update(bar.ax for bar in _color_bars(axes))
    return [axes for axes in every if axes not in color_bars]


def _all_axes(axes: Iterable[Any]) -> Iterator[Axes]:
    """Yield axes, each followed by its insets."""
    for one in axes:
        yield one
        yield from _all_axes(one.child_axes)


def _legends(canvas: Canvas, axes: Iterable[Axes]) -> Iterator[Legend]:
    yield from canvas.legends
    for one in axes:
        legend = one.get_legend()
        if legend is not None:
            yield legend


def _unique_colors(by_style: Mapping[Style, str]) -> dict[str, str]:
    """Return the series by color, for colors that one series alone has."""
    labels: dict[str, set[str]] = {}
    for style, label in by_style.items():
        labels.setdefault(style.color, set()).add(label)
    return {color: min(found) for color, found in labels.items() if len(found) == 1}


def _series_of(item: DrawnData, by_style: Mapping[Style, str], by_color: Mapping[str, str]) -> str:
    """Return the label of the series that an artist belongs to, or ""."""
    if item.style is None:
        return ""
    if is_name(item.label):
        return item.label
    return by_style.get(item.style) or by_color.get(item.style.color, "")


def _panel(axes: Axes) -> dict[str, str]:
    """Return the names of an axes' directions and of its images' values. The title names what has no label."""
    title = plain_line(axes.get_title(loc="left") or axes.get_title())
    return {
        "x": plain_line(axes.get_xlabel()),
        "y": plain_line(axes.get_ylabel()) or title,
        "value": _color_bar_label(axes) or title,
    }


def _color_bar_label(axes: Axes) -> str:
    """Return the label of the first color bar of an axes' images, or ""."""
    for bar in _color_bars(axes):
        return plain_line(bar.ax.get_ylabel() or bar.ax.get_xlabel())
    return ""


def _color_bars(axes: Axes) -> list[Any]:
    """Return the color bars of an axes' images."""
    images = (*axes.images, *axes.collections)
    return [image.colorbar for image in images if image.colorbar is not None]


def _points(canvas: Canvas, item: DrawnData, step: int) -> Iterator[list[Any]]:
    """Yield every `step`-th point of an artist that lies within its axes: left, top, and the texts of x, y and the value."""
    if not len(item.data):
        return
    with np.errstate(all="ignore"):
        shares = canvas.transFigure.inverted().transform(item.axes.transData.transform(item.data))
    box = item.axes.get_position()
    names_x, names_y = _tick_names(item.axes.xaxis), _tick_names(item.axes.yaxis)
    for index in range(0, len(item.data), step):
        left, bottom = shares[index].tolist()
        if not (box.x0 - _SLACK <= left <= box.x1 + _SLACK and box.y0 - _SLACK <= bottom <= box.y1 + _SLACK):
            continue  # outside, or not finite
        x, y = item.data[index].tolist()
        error_x, error_y = item.errors[index] if item.errors else ("", "")
        texts = [names_x.get(x, format_value(x)) + error_x, names_y.get(y, format_value(y)) + error_y]
        yield [round(left, 5), round(1 - bottom, 5), *texts, *item.values[index : index + 1]]


def _tick_names(axis: Any) -> dict[float, str]:
    """Return the labels of ticks that are words, by position: those of categories."""
    names = {}
    for position, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels()):
        text = plain_line(label.get_text())
        if any(character.isalpha() for character in text):
            names[float(position)] = text
    return names
