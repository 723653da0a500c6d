"""Accuracy against confidence of the averaged probabilities, with one curve per method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness import Figure, FigureData, Plot, drawing, leaderboard
from harness_metrics.figures.places import values_by_place

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


class _Bin(NamedTuple):
    """A bin of confidences: mean confidence, mean and standard deviation of the accuracy over seeds, examples, and seeds."""

    number: int
    confidence: float
    accuracy: float
    std: float | None
    examples: float
    seeds: int


class ReliabilityDiagram(Figure):
    """Accuracy against confidence in bins: rows of the metric `expected_calibration_error` (Guo et al. 2017, figure 1)."""

    name, version = "reliability_diagram", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none without such rows."""
        curves = _curves(data)
        if not curves:
            return
        records = []
        for method, bins in curves.items():
            records += [(method, *found) for found in bins]
        shown = dict(list(curves.items())[: drawing.MOST_LABELS])
        omitted = drawing.first_of(len(shown), len(curves))
        if omitted:
            omitted += " "
        seeds = len(data.table.seeds)
        spread = "One seed, so no spread." if seeds == 1 else f"Mean and standard deviation over {seeds} seeds."
        yield Plot(
            title="Reliability diagram",
            caption="Accuracy of the test images in each bin of confidence, the largest averaged probability, against "
            "their mean confidence. On the diagonal an ensemble is calibrated, below it is too confident. "
            f"{spread} {omitted}From the rows calibration_accuracy, calibration_confidence and calibration_count.",
            columns=("method", "bin", "confidence", "accuracy", "accuracy_std", "examples", "seeds"),
            records=tuple(records),
            paint=partial(_paint, shown),
            size=(6.4, drawing.height(3.9, len(shown))),
        )


def _curves(data: FigureData) -> dict[str, list[_Bin]]:
    """Return the bins of each method that an axis can show, in order of confidence."""
    names = ("calibration_confidence", "calibration_accuracy", "calibration_count")
    confidence, accuracy, count = (values_by_place(data, name, 1) for name in names)
    curves = {}
    for method, by_seed in accuracy.items():
        numbers = sorted({place for places in by_seed.values() for place in places})
        bins = []
        for place in numbers:
            seeds = [seed for seed, places in by_seed.items() if place in places]
            columns = []
            for table in (confidence, accuracy, count):
                columns.append([table.get(method, {}).get(seed, {}).get(place, float("nan")) for seed in seeds])
            found = _bin(int(place[0]), columns)
            if found is not None:
                bins.append(found)
        if bins:
            curves[method] = bins
    return curves


def _bin(number: int, columns: Sequence[Sequence[float]]) -> _Bin | None:
    """Return a bin over seeds from confidences, accuracies and counts; None if an axis cannot show all of them."""
    for values in columns:
        if not all(map(drawing.fits_an_axis, values)):
            return None
    confidences, accuracies, counts = columns
    mean, std = leaderboard.mean_and_std(list(accuracies))
    return _Bin(number, sum(confidences) / len(confidences), mean, std, sum(counts), len(accuracies))


def _paint(curves: Mapping[str, Sequence[_Bin]], canvas: Canvas) -> None:
    axes = canvas.subplots()
    axes.plot([0, 100], [0, 100], color=drawing.GREY, linestyle=":", linewidth=1.0)
    handles = [_curve(axes, method, bins) for method, bins in curves.items()]
    axes.set_xlabel("Confidence (%)")
    axes.set_ylabel("Accuracy (%)")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    drawing.legend(axes, handles, [drawing.label(method) for method in curves])


def _curve(axes: Axes, method: str, bins: Sequence[_Bin]) -> Artist:
    style = drawing.method_style(method)
    drawn = axes.errorbar(
        [found.confidence for found in bins],
        [found.accuracy for found in bins],
        [found.std or 0.0 for found in bins],
        color=style.color,
        marker=style.marker,
        linestyle=style.line,
        markersize=3.5,
        linewidth=1.1,
        elinewidth=0.8,
    )
    return drawn[0]
