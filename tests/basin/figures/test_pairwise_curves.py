"""Pairwise curves: their values against the rows, averaged by pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.results.rows import frame
from harness.testing import check_figure
from harness_basin.figures import PairwiseCurves
from run_folder import PLAIN, figures_of, made, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def test_values_of_a_complete_run(folder: Path) -> None:
    """The data are the mean, standard deviation and number over pairs and seeds, per method and λ."""
    data = table(figures_of(folder), "pairwise_curves").set_index(["method", "lambda"])
    rows = frame(PLAIN)
    curves = rows[rows["metric"].str.startswith("pairwise_curve/")]
    weight = curves["metric"].str.rpartition("/")[2].astype(float)
    expected = curves.groupby([curves["method"], weight.rename("lambda")])["value"].agg(["mean", "std", "count"])
    assert len(data) == len(expected) == 6
    for column, statistic in (("accuracy", "mean"), ("accuracy_std", "std"), ("n", "count")):
        pd.testing.assert_series_equal(data[column].sort_index(), expected[statistic], check_names=False, check_dtype=False)


def test_contract() -> None:
    """The figure needs no other rows, and its caption says how many segments it averages."""
    (plot,) = check_figure(PairwiseCurves(), ["pairwise_curve/0-1/0", "pairwise_curve/0-1/0.5", "pairwise_curve/0-1/1"])
    assert plot.title == "Accuracy between two members"
    assert "3 segments at most" in plot.caption
