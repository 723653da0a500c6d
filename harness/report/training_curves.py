"""The figure of loss and accuracy in training: a curve per method with a band over seeds, objectives apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.api import drawing
from harness.api.figure import Epoch, Plot, Training

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_UNKNOWN = "all trainings"
_LOSS = "Training loss (nats)"
_QUANTITIES: dict[str, Callable[[Epoch], float]] = {
    _LOSS: lambda epoch: epoch.loss,
    "Training accuracy (%)": lambda epoch: epoch.accuracy,
}


@dataclass(frozen=True)
class _Group:
    """Methods that need the same trainings of one objective, and these trainings."""

    objective: str
    methods: tuple[str, ...]
    trainings: tuple[Training, ...]

    @property
    def label(self) -> str:
        return ", ".join(self.methods) or _UNKNOWN

    def curve(self, value: Callable[[Epoch], float]) -> list[tuple[int, float, float, float]]:
        """Return (epoch, median, lowest, highest) of the seeds' means, for the epochs that all seeds have reported.

        A median over the seeds that happen to have an epoch would jump where a seed begins or ends, and so would a mean over
        the trainings that have come so far: the curve ends where the first unfinished training stands.
        """
        by_seed: dict[object, dict[int, list[float]]] = {}
        end = max(training.epochs[-1].epoch for training in self.trainings)
        for training in self.trainings:
            seed = training.task if training.seed is None else training.seed
            if not training.is_complete:
                end = min(end, training.epochs[-1].epoch)
            values = by_seed.setdefault(seed, {})
            for epoch in training.epochs:
                values.setdefault(epoch.epoch, []).append(value(epoch))
        common = set.intersection(*[set(values) for values in by_seed.values()])
        points = []
        for number in sorted(common):
            means = [statistics.fmean(values[number]) for values in by_seed.values()]
            if number <= end and all(map(drawing.fits_an_axis, means)):
                points.append((number, statistics.median(means), min(means), max(means)))
        return points


def training_curves(trainings: Sequence[Training]) -> Plot:
    """Return the plot of one or more trainings, each of at least one epoch."""
    n = len(trainings)
    noun = "training" if n == 1 else "trainings"
    groups = _groups(trainings)
    shown = _first(groups)
    rows = len({group.objective for group in groups})
    records = []
    for training in trainings:
        methods = ", ".join(training.methods)
        for epoch in training.epochs:
            records.append((training.task, *epoch, methods, training.seed, training.member, training.objective))
    return Plot(
        title=f"{n} {noun}",
        caption=_caption(trainings, groups, len(shown)),
        columns=("task", *Epoch._fields, "methods", "seed", "member", "objective"),
        records=tuple(records),
        paint=partial(_paint, shown),
        size=(9.6, max(2.9 * rows, drawing.height(0.0, len(shown)))),
    )


def _groups(trainings: Sequence[Training]) -> tuple[_Group, ...]:
    """Return the groups by objective, in order of first appearance. Methods with equal trainings share a group."""
    by_method: dict[tuple[str, str], list[Training]] = {}
    for training in trainings:
        for method in training.methods or ("",):
            by_method.setdefault((training.objective, method), []).append(training)
    methods_of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    trainings_of: dict[tuple[str, tuple[str, ...]], list[Training]] = {}
    for (objective, method), needed in by_method.items():
        key = (objective, tuple(training.task for training in needed))
        methods_of.setdefault(key, []).append(method)
        trainings_of[key] = needed
    groups = []
    for key, methods in methods_of.items():
        groups.append(_Group(key[0], tuple(filter(None, methods)), tuple(trainings_of[key])))
    order = list(dict.fromkeys(group.objective for group in groups))
    return tuple(sorted(groups, key=lambda group: order.index(group.objective)))


def _first(groups: Sequence[_Group]) -> list[_Group]:
    """Return as many groups as one picture shows, the first ones of each objective."""
    counts: dict[str, int] = {}
    objectives = len({group.objective for group in groups})
    found = []
    for group in groups:
        counts[group.objective] = counts.get(group.objective, 0) + 1
        if counts[group.objective] <= max(1, drawing.MOST_LABELS // objectives):
            found.append(group)
    return found


def _caption(trainings: Sequence[Training], groups: Sequence[_Group], shown: int) -> str:
    seeds = {training.seed for training in trainings} - {None}
    sentences = []
    if len(seeds) > 1:
        sentences.append(f"Median over {len(seeds)} seeds, and the range from the lowest to the highest seed (shaded).")
    elif seeds:
        sentences.append("One seed, so no range.")
    elif len(trainings) > 1:
        sentences.append("Median over trainings, and the range from the lowest to the highest (shaded).")
    if any(group.methods for group in groups):
        sentences.append(
            "A seed's value is the mean over the trainings that the method needs, with shared ones and teachers. "
            "Methods with the same trainings share a curve."
        )
    if shown < len(groups):
        sentences.append(drawing.first_of(shown, len(groups), "curves"))
    sentences.append("An epoch is drawn once every seed and every training under way has reached it.")
    sentences.append(
        "On training images as augmented; losses of different objectives do not compare. What the store already held was not "
        "trained for this run and is not here. From the epochs in events.jsonl."
    )
    return " ".join(sentences)


def _paint(groups: Sequence[_Group], canvas: Canvas) -> None:
    objectives = list(dict.fromkeys(group.objective for group in groups))
    every = drawing.panels(canvas, 2 * len(objectives), columns=2)
    handles: dict[str, Artist] = {}
    for row, objective in enumerate(objectives):
        shown = [group for group in groups if group.objective == objective]
        for axes, (title, value) in zip(every[2 * row : 2 * row + 2], _QUANTITIES.items()):
            values: list[float] = []
            for group in shown:
                points = group.curve(value)
                if points:
                    handles.setdefault(group.label, _curve(axes, group, points))
                    values += [median for _, median, _, _ in points]
            if value is _QUANTITIES[_LOSS]:
                _logarithmic_if_wide(axes, values)
            axes.set_title(_heading(objective))
            axes.set_ylabel(title)
            axes.set_xlabel("Epoch")
            drawing.whole_number_ticks(axes)
    if list(handles) not in ([], [_UNKNOWN]):
        drawing.legend(every[1], list(handles.values()), [drawing.label(name) for name in handles])


def _heading(objective: str) -> str:
    words = drawing.label(objective.replace("_", "-"))
    return words[:1].upper() + words[1:]


def _curve(axes: Axes, group: _Group, points: Sequence[tuple[int, float, float, float]]) -> Artist:
    """Draw a group's median and range; return the line."""
    style = drawing.CurveStyle(drawing.ACCENT, "o", "-")
    if group.methods:
        style = drawing.method_style(group.methods[0])
    epochs, medians, lows, highs = (list(values) for values in zip(*points))
    marker = style.marker if len(points) == 1 else ""
    (line,) = axes.plot(epochs, medians, color=style.color, linestyle=style.line, marker=marker)
    axes.fill_between(epochs, lows, highs, color=style.color, alpha=0.18, linewidth=0)
    return line


def _logarithmic_if_wide(axes: Axes, values: Sequence[float]) -> None:
    """Make the axis of the loss logarithmic if its curves differ by more than a factor of five and are above 0."""
    if not values or min(values) <= 0 or max(values) < 5 * min(values):
        return
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(lambda y, _: "")
