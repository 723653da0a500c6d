"""Training curves: the numbers of the events, also repeated, many or not finite ones."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from harness.report import write_figures
from run_folder import EVENTS, FACTS, PLAIN, epochs, figures_of, made, rows_of_method, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def test_data_of_the_training_curves(folder: Path) -> None:
    """They hold every epoch of every task as the events report it."""
    data = table(figures_of(folder), "training_curves")
    expected = pd.DataFrame([event for event in EVENTS if event["event"] == "epoch"])[["task", "epoch", "loss", "accuracy"]]
    pd.testing.assert_frame_equal(data, expected)


def test_epoch_that_was_trained_again(tmp_path: Path) -> None:
    """The last report of an epoch counts; a resumed training repeats epochs that were not saved."""
    again = epochs("t1", 4, first=3, loss=5.0)
    data = table(figures_of(made(tmp_path / "run", events=[*EVENTS, *again])), "training_curves")
    assert list(data[data["task"] == "t1"]["epoch"]) == [1, 2, 3, 4]
    assert list(data[data["task"] == "t1"]["loss"]) == [2.0, 1.0, 5 / 3, 5 / 4]


def test_trainings_of_several_data_sets(tmp_path: Path) -> None:
    """run.json assigns the trainings of members to data sets; shared trainings have a section of their own."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    members = [{"object": "t1", "dataset": "digits", "architecture": "resnet20", "method": "deep"}]
    figures = figures_of(made(tmp_path / "run", rows, {**FACTS, "members": members}))
    assert [figure.name for figure in figures if figure.name.startswith("training")] == [
        "training_curves-digits-resnet20",
        "training_curves-trainings-that-several-ensembles-share",
    ]


def test_more_than_a_hundred_trainings(tmp_path: Path) -> None:
    """A band of quantiles replaces the lines, and the picture stays small; the data are complete."""
    events = []
    for task in range(150):
        events += epochs(f"t{task}", 40, loss=1.0 + task % 7)
    figures = figures_of(made(tmp_path / "run", events=events))
    [figure] = [figure for figure in figures if figure.name.startswith("training")]
    assert "From the 10% to the 90% quantile of all trainings, in bold their median." in figure.plot.caption
    assert len(figure.plot.records) == 150 * 40
    svg = next(path for path in write_figures([figure], tmp_path / "figures") if path.suffix == ".svg")
    assert svg.stat().st_size < 200_000


def test_losses_that_are_not_finite_or_not_positive(tmp_path: Path) -> None:
    """The data hold them, and the curves leave them out."""
    odd = [{**event, "loss": value} for event, value in zip(epochs("t3"), (math.nan, -1.0, 0.0))]
    write_figures(figures_of(made(tmp_path / "run", events=[*EVENTS, *odd])), tmp_path / "figures")
    only = [{**event, "loss": math.inf, "accuracy": math.nan} for event in epochs("t3")]
    write_figures(figures_of(made(tmp_path / "only", events=only)), tmp_path / "figures")
