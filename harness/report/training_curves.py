"""The figure of loss and accuracy of every training per epoch. Events identify a training by its task, not by its method."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.api.drawing import ACCENT, GREY, INK, fits_an_axis, whole_number_ticks
from harness.api.figure import Epoch, Plot, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MAX_LINES = 100  # with more trainings, a band of quantiles replaces the lines
_MAX_POINTS = 150  # of a longer line, only some points are drawn
_BAND = (0.1, 0.9)


def training_curves(trainings: Sequence[Training]) -> Plot:
    """Return the plot of one or more trainings."""
    n = len(trainings)
    noun = "training" if n == 1 else "trainings"
    records = []
    for training in trainings:
        records += [(training.task, *epoch) for epoch in training.epochs]
    return Plot(
        title=f"{n} {noun}",
        caption=f"{_lines_shown(n)}. On training images as augmented; the loss is each training's own objective, so those of "
        "different objectives do not compare. What the store already held was not trained for this run and is not here.",
        columns=("task", *Epoch._fields),
        records=tuple(records),
        paint=partial(_paint, trainings),
        size=(9.0, 3.1),
    )


def _lines_shown(trainings: int) -> str:
    shown = "A line a training"
    if trainings > _MAX_LINES:
        shown = f"From the {_BAND[0]:.0%} to the {_BAND[1]:.0%} quantile of all trainings"
    if trainings > 1:
        shown += ", in bold their median"
    return shown


def _paint(trainings: Sequence[Training], canvas: Canvas) -> None:
    left, right = canvas.subplots(1, 2)
    _panel(left, trainings, lambda epoch: epoch.loss)
    _panel(right, trainings, lambda epoch: epoch.accuracy)
    left.set_title("training loss (nats)")
    right.set_title("training accuracy (%)")
    losses: list[float] = []
    for training in trainings:
        losses += [epoch.loss for epoch in training.epochs]
    if min(losses) > 0 and max(losses) > 5 * min(losses):
        _logarithmic(left)


def _panel(axes: Axes, trainings: Sequence[Training], value: Callable[[Epoch], float]) -> None:
    """Draw one quantity of all trainings."""
    by_epoch = _values_by_epoch(trainings, value)
    if len(trainings) > _MAX_LINES:
        _band(axes, by_epoch)
    else:
        _lines(axes, trainings, value)
    if len(trainings) > 1:
        medians = [statistics.median(values) for values in by_epoch.values()]
        axes.plot(list(by_epoch), medians, color=ACCENT, linewidth=1.6)
    axes.set_xlabel("epoch")
    whole_number_ticks(axes)


def _values_by_epoch(trainings: Sequence[Training], value: Callable[[Epoch], float]) -> dict[int, list[float]]:
    """Return the values that an axis can show, by epoch, in the order of epochs."""
    found: dict[int, list[float]] = {}
    for training in trainings:
        for epoch in training.epochs:
            if fits_an_axis(value(epoch)):
                found.setdefault(epoch.epoch, []).append(value(epoch))
    return dict(sorted(found.items()))


def _band(axes: Axes, by_epoch: dict[int, list[float]]) -> None:
    """Draw the range between two quantiles of all trainings."""
    low = [_quantile(values, _BAND[0]) for values in by_epoch.values()]
    high = [_quantile(values, _BAND[1]) for values in by_epoch.values()]
    axes.fill_between(list(by_epoch), low, high, color=GREY, alpha=0.2, linewidth=0)


def _lines(axes: Axes, trainings: Sequence[Training], value: Callable[[Epoch], float]) -> None:
    """Draw one line per training."""
    color = INK if len(trainings) == 1 else GREY
    for training in trainings:
        shown = training.epochs[:: 1 + len(training.epochs) // _MAX_POINTS]
        marker = "." if len(shown) == 1 else ""
        x = [epoch.epoch for epoch in shown]
        y = [value(epoch) for epoch in shown]
        axes.plot(x, y, color=color, marker=marker, linewidth=0.6, alpha=0.5, markersize=2.0)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(lambda y, _: "")
