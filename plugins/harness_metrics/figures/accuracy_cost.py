"""Accuracy of the ensemble against its cost in epochs, with one point per method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness import Figure, FigureData, Plot, drawing, leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_ACCURACY, _ALONE, _NEW = "ensemble_accuracy", "training_epochs", "new_epochs"


@dataclass(frozen=True)
class _Point:
    """A method's means over seeds. `new` is its cost after the methods before it; None if it is not known."""

    method: str
    accuracy: float
    std: float | None
    seeds: int
    alone: float
    new: float | None


class AccuracyCost(Figure):
    """Accuracy of the ensemble against the epochs of training that it costs: rows `ensemble_accuracy` and `training_epochs`."""

    name, version = "accuracy_cost", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none if no method has both values."""
        points = _points(data)
        if not points:
            return
        seeds = len(data.table.seeds)
        spread = "One seed, so no spread." if seeds == 1 else f"Mean and standard deviation over {seeds} seeds."
        if len(points) > drawing.MOST_LABELS:
            spread += f" With more than {drawing.MOST_LABELS} methods, only the data have the error bars."
        new = ""
        if any(point.new is not None and point.new < point.alone for point in points):
            new = " A hollow marker is the cost after the methods above it on the board, whose trainings it shares."
        yield Plot(
            title="Accuracy against cost",
            caption="Test accuracy of the ensemble against the epochs of training that the method costs alone, with its "
            f"teachers; methods compare at an equal budget on a vertical line.{new} {spread} "
            "From the rows ensemble_accuracy, training_epochs and new_epochs.",
            columns=("method", "accuracy", "accuracy_std", "seeds", "epochs_alone", "epochs_new"),
            records=tuple((p.method, p.accuracy, p.std, p.seeds, p.alone, p.new) for p in points),
            paint=partial(_paint, points, drawing.metric_label(data.table, _ACCURACY)),
            size=(7.6, drawing.height(3.5, len(points))),
        )


def _points(data: FigureData) -> list[_Point]:
    """Return the methods whose accuracy and cost an axis can show, in the table's order."""
    done = data.rows[data.rows["status"] == "done"]
    points = []
    for method in data.table.methods:
        rows = done[done["method"] == method.name]
        values = {name: rows[rows["metric"] == name]["value"].tolist() for name in (_ACCURACY, _ALONE, _NEW)}
        if not values[_ACCURACY] or not values[_ALONE]:
            continue
        accuracy, std = leaderboard.mean_and_std(values[_ACCURACY])
        alone, _ = leaderboard.mean_and_std(values[_ALONE])
        if not drawing.fits_an_axis(accuracy) or not drawing.fits_an_axis(alone):
            continue
        new = None
        if values[_NEW]:
            new, _ = leaderboard.mean_and_std(values[_NEW])
        if new is not None and not drawing.fits_an_axis(new):
            new = None
        points.append(_Point(method.name, accuracy, std, len(values[_ACCURACY]), alone, new))
    return points


def _paint(points: Sequence[_Point], accuracy: str, canvas: Canvas) -> None:
    axes = canvas.subplots()
    handles = []
    marked: list[tuple[float, float]] = []
    for point in points:
        style = drawing.method_style(point.method)
        std = point.std or 0.0
        if not drawing.fits_an_axis(std) or len(points) > drawing.MOST_LABELS:
            std = 0.0
        drawn = axes.errorbar(
            point.alone,
            point.accuracy,
            std or None,
            color=style.color,
            marker=style.marker,
            linestyle="",
            elinewidth=0.9,
            label=drawing.label(point.method),
        )
        handles.append(drawn[0])
        if point.new is not None and point.new < point.alone:
            axes.plot([point.new, point.alone], [point.accuracy] * 2, color=style.color, linewidth=0.6, alpha=0.6)
            axes.plot(point.new, point.accuracy, color=style.color, marker=style.marker, markerfacecolor="white", linestyle="")
            marked += drawing.along((point.new, point.accuracy), (point.alone, point.accuracy))
        marked += drawing.along((point.alone, point.accuracy - std), (point.alone, point.accuracy + std))
    axes.set_xlabel("Cost (epochs of training)")
    axes.set_ylabel(accuracy)
    axes.margins(0.1, 0.15)
    drawing.name_points(
        axes,
        handles,
        [(point.alone, point.accuracy) for point in points],
        [point.method for point in points],
        [drawing.method_style(point.method).color for point in points],
        obstacles=marked,
    )
