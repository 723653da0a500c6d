"""Accuracy against connectivity: its values against the rows, averaged by pandas."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from harness import drawing
from harness.report import write_figures
from harness.results.rows import frame
from harness.testing import check_figure, figure_data
from harness_basin.figures import AccuracyConnectivity
from harness_basin.figures.crowd import crowded
from harness_basin.figures.method_curves import method_curves
from run_folder import FACTS, PLAIN, figures_of, made, row, rows_of_method, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def test_values_of_a_complete_run(folder: Path) -> None:
    """The data are the mean, standard deviation and number of seeds of each of the three metrics."""
    data = table(figures_of(folder), "accuracy_connectivity").set_index("method")
    rows = frame(PLAIN)
    for metric in ("joint_connectivity", "ensemble_accuracy", "mean_member_accuracy"):
        expected = rows[rows["metric"] == metric].groupby("method")["value"].agg(["mean", "std", "count"])
        for column, statistic in ((metric, "mean"), (f"{metric}_std", "std"), (f"{metric}_n", "count")):
            found = data[column].sort_index()
            pd.testing.assert_series_equal(found, expected[statistic], check_names=False, check_dtype=False)


def test_values_that_cannot_be_drawn(tmp_path: Path) -> None:
    """NaN and infinite means are in the data; the figure shows the other values, and does not exist without any."""
    rows = [*PLAIN, *rows_of_method("lost", math.nan), *rows_of_method("far", math.inf), row("half", 0, 90.0)]
    figures = figures_of(made(tmp_path / "run", rows))
    data = table(figures, "accuracy_connectivity").set_index("method")
    assert math.isnan(data.loc["lost", "ensemble_accuracy"])
    assert math.isinf(data.loc["far", "ensemble_accuracy"])
    assert data.loc["half", "joint_connectivity_n"] == 0
    write_figures(figures, tmp_path / "figures")
    assert [f.name for f in figures_of(made(tmp_path / "only", rows_of_method("nan", math.nan), FACTS, None))] == []


def test_one_seed_and_one_method(tmp_path: Path) -> None:
    """The caption says that there is no spread, and the figures can be written."""
    figures = figures_of(made(tmp_path / "run", rows_of_method("deep", seeds=[0])))
    captions = {figure.name.partition("-")[0]: figure.plot.caption for figure in figures}
    assert "One seed, so no spread." in captions["accuracy_connectivity"]
    write_figures(figures, tmp_path / "figures")


def test_contract() -> None:
    """The figure needs no accuracy of the members, and its caption describes the horizontal line."""
    (plot,) = check_figure(AccuracyConnectivity(), ["joint_connectivity", "ensemble_accuracy"])
    assert [record[-1] for record in plot.records] == [0, 0]
    assert "Lines across, dashed: accuracy of the first method, first." in plot.caption


def test_contract_with_fork_epochs() -> None:
    """The caption describes the line between a method's fork epochs."""
    methods = {"m(1)": {"fork_epoch": 1}, "m(2)": {"fork_epoch": 2}}
    (plot,) = check_figure(AccuracyConnectivity(), ["joint_connectivity", "ensemble_accuracy"], methods)
    assert "A line joins one method at several fork epochs t" in plot.caption


PAPER = ("deep", "swe", "constrained", "permuted", "multi_permuted", "distilled", "distilled_deep")


def test_colors_of_the_papers_methods() -> None:
    """The seven methods have different colors."""
    assert len({drawing.method_style(method).color for method in PAPER}) == 7


def test_style_of_a_curve_does_not_depend_on_other_methods() -> None:
    """A method, and a curve of fork epochs, look the same alone and among others."""
    metrics = ["joint_connectivity", "ensemble_accuracy"]
    forked = {"constrained(fork_epoch=1)": {"fork_epoch": 1}, "constrained(fork_epoch=5)": {"fork_epoch": 5}}
    alone = method_curves(figure_data(metrics, forked))
    among = method_curves(figure_data(metrics, {"deep": {}, "swe": {}, **forked}))
    assert alone[0].style == among[2].style == drawing.method_style("constrained")


@pytest.mark.parametrize(
    ("points", "crowd"),
    [
        ([(-60.0, 90.0), (-0.5, 80.0), (0.5, 85.0)], (-0.5, 0.5, 80.0, 85.0)),
        ([(-60.0, 90.0), (-0.5, 80.0)], None),
        ([(-10.0, 90.0), (-0.5, 80.0), (0.5, 85.0)], None),
        ([(0.0, 1.0), (0.0, 1.0)], None),
    ],
)
def test_crowd_near_zero(points: list[tuple[float, float]], crowd: tuple[float, ...] | None) -> None:
    """At least two points near 0 are a crowd if another is far away."""
    assert crowded(points) == crowd


def test_inset_and_names(tmp_path: Path) -> None:
    """Points that crowd near 0 are in an inset, and every method is named once, without a legend."""
    rows = []
    for method, q, accuracy in (("deep", -60.0, 92.0), ("swe", 0.1, 90.0), ("constrained", -0.8, 91.0)):
        rows += [row(method, 0, q, "joint_connectivity"), row(method, 0, accuracy)]
    (figure,) = figures_of(made(tmp_path / "run", rows, events=None))
    assert "The inset shows the points within ±2 % of connectivity larger." in figure.plot.caption
    canvas = Canvas(figsize=(7.6, 3.7), layout="constrained")
    figure.plot.paint(canvas)
    (axes,) = canvas.axes
    (inset,) = axes.child_axes
    assert axes.get_legend() is None
    assert [text.get_text() for text in axes.texts] == ["deep"]
    assert sorted(text.get_text() for text in inset.texts) == ["constrained", "swe"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Joint connectivity (%)", "Ensemble accuracy (%)")


def test_axes_in_the_words_of_the_metrics(tmp_path: Path) -> None:
    """Titles and symbols that metrics declare label the axes."""
    rows = [
        row("deep", 0, -1.0, "joint_connectivity", title="Connectivity", symbol="q̄"),
        row("deep", 0, 90.0, title="Accuracy", symbol="Acc"),
    ]
    (figure,) = figures_of(made(tmp_path / "run", rows, events=None))
    canvas = Canvas()
    figure.plot.paint(canvas)
    assert (canvas.axes[0].get_xlabel(), canvas.axes[0].get_ylabel()) == ("Connectivity q̄ (%)", "Accuracy (%)")
