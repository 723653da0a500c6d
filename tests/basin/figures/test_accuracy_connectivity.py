"""Accuracy against connectivity: its values against the rows, averaged by pandas."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from harness.report import write_figures
from harness.results.rows import frame
from harness.testing import check_figure
from harness_basin.figures import AccuracyConnectivity
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
