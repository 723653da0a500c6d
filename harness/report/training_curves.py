"""Loss and accuracy of every training, epoch by epoch. A run's events know trainings by their tasks, not by methods."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.report.drawing import GREY, INK, Figure, fits_an_axis, whole_epochs
from harness.report.run import Epoch, Run, Training, entries, mapping

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MOST_LINES, _MOST_POINTS = 100, 150  # beyond, a band stands for the lines, and a line shows some of its points
_BAND = (0.1, 0.9)
_ELSEWHERE = "trainings that several ensembles share"


def training_curves(run: Run) -> list[Figure]:
    """Return a figure for each data set × architecture that trainings are known to be of, and one of the others."""
    places = {(str(row.dataset), str(row.architecture)) for row in run.rows[["dataset", "architecture"]].itertuples()}
    alone = ", ".join(next(iter(places))) if len(places) == 1 else ""
    of = _places(run)
    found: dict[str, list[Training]] = {}
    for training in run.log.trainings if run.log is not None else ():
        found.setdefault(alone or of.get(training.task, _ELSEWHERE), []).append(training)
    return [_figure(place, trainings) for place, trainings in found.items()]


def _places(run: Run) -> Mapping[str, str]:
    """Return which data set and architecture a member's own training is of, as `run.json` has it."""
    members = entries(mapping(run.facts).get("members"))
    return {str(m.get("object")): f"{m.get('dataset')}, {m.get('architecture')}" for m in members}


def _figure(place: str, trainings: Sequence[Training]) -> Figure:
    n = len(trainings)
    band = f"From the {_BAND[0]:.0%} to the {_BAND[1]:.0%} quantile of all trainings"
    lines = ("A line a training" if n <= _MOST_LINES else band) + (", in bold their median" if n > 1 else "")
    return Figure(
        name="training_curves",
        section=place,
        title=f"{n} training{'s' if n > 1 else ''}",
        caption=f"{lines}. On training images as augmented; the loss is each training's own objective, so those of different "
        "objectives do not compare. What the store already held was not trained for this run and is not here.",
        columns=("task", *Epoch._fields),
        lines=tuple((training.task, *epoch) for training in trainings for epoch in training.epochs),
        size=(9.0, 3.1),
        draw=partial(_draw, trainings),
    )


def _draw(trainings: Sequence[Training], canvas: Canvas) -> None:
    left, right = canvas.subplots(1, 2)
    _panel(left, trainings, lambda epoch: epoch.loss)
    _panel(right, trainings, lambda epoch: epoch.accuracy)
    left.set_title("training loss (nats)")
    right.set_title("training accuracy (%)")
    losses = [epoch.loss for training in trainings for epoch in training.epochs]
    if min(losses) > 0 and max(losses) > 5 * min(losses):
        _logarithmic(left)


def _panel(axes: Axes, trainings: Sequence[Training], value: Callable[[Epoch], float]) -> None:
    """Draw one quantity of all trainings."""
    at: dict[int, list[float]] = {}
    for training in trainings:
        for epoch in training.epochs:
            if fits_an_axis(value(epoch)):
                at.setdefault(epoch.epoch, []).append(value(epoch))
    epochs = sorted(at)
    if len(trainings) > _MOST_LINES:
        low, high = ([_quantile(at[epoch], share) for epoch in epochs] for share in _BAND)
        axes.fill_between(epochs, low, high, color=GREY, alpha=0.2, linewidth=0)
    else:
        for training in trainings:
            shown = training.epochs[:: 1 + len(training.epochs) // _MOST_POINTS]
            colour, marker = INK if len(trainings) == 1 else GREY, "." if len(shown) == 1 else ""
            x, y = [e.epoch for e in shown], [value(e) for e in shown]
            axes.plot(x, y, color=colour, marker=marker, linewidth=0.6, alpha=0.5, markersize=2.0)
    if len(trainings) > 1:
        axes.plot(epochs, [statistics.median(at[epoch]) for epoch in epochs], color="#33658a", linewidth=1.6)
    axes.set_xlabel("epoch")
    whole_epochs(axes)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(lambda y, _: "")
