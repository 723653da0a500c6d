"""Training curves: a method's median and range over seeds, objectives apart, also of repeated, many or odd numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from harness import Epoch, Training
from harness.report import write_figures
from harness.report.training_curves import _groups, training_curves
from run_folder import EVENTS, FACTS, PLAIN, Event, epochs, figures_of, made, rows_of_method, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def training(
    task: str, losses: dict[int, float], methods: tuple[str, ...] = ("deep",), seed: int | None = 0, **fields: object
) -> Training:
    """Return a training with these losses by epoch; its accuracy is ten times the loss."""
    made_epochs = tuple(Epoch(number, loss, 10 * loss) for number, loss in losses.items())
    defaults: dict[str, object] = {"member": 0, "objective": "cross_entropy", "until": max(losses)}
    return Training(task, made_epochs, methods, seed, **{**defaults, **fields})  # type: ignore[arg-type]


def curves(*trainings: Training) -> dict[tuple[str, str], list[tuple[int, float, float, float]]]:
    """Return (epoch, median, lowest, highest) of the loss by objective and label."""
    return {(group.objective, group.label): group.curve(lambda epoch: epoch.loss) for group in _groups(trainings)}


def test_data_of_the_training_curves(folder: Path) -> None:
    """They hold every epoch of every task as the events report it."""
    data = table(figures_of(folder), "training_curves")
    columns = ["task", "epoch", "loss", "accuracy"]
    expected = pd.DataFrame([event for event in EVENTS if event["event"] == "epoch"])[columns]
    pd.testing.assert_frame_equal(data[columns], expected)


def test_data_of_events_with_methods(tmp_path: Path) -> None:
    """The data name the methods, the seed, the member and the objective of each training."""
    events: list[Event] = []
    for event in epochs("t1"):
        events.append({**event, "methods": ["deep", "swe"], "seed": 2, "member": 1, "objective": "distillation"})
    data = table(figures_of(made(tmp_path / "run", events=events)), "training_curves")
    assert set(data["methods"]) == {"deep, swe"}
    assert set(zip(data["seed"], data["member"], data["objective"])) == {(2, 1, "distillation")}


@pytest.mark.parametrize("wrong", [None, 3, "deep", {"a": 1}, [3, None]])
def test_events_with_fields_of_a_wrong_type(tmp_path: Path, wrong: object) -> None:
    """They do not count, and the curves are drawn."""
    fields = dict.fromkeys(["methods", "seed", "member", "objective", "until", "dataset"], wrong)
    events = [{**event, **fields} for event in epochs("t1")]
    data = table(figures_of(made(tmp_path / "run", events=events)), "training_curves")
    assert list(data["epoch"]) == [1, 2, 3]


def test_median_and_range_over_seeds() -> None:
    """A seed's value is the mean over its members; median, lowest and highest are over seeds."""
    trainings = []
    for seed, losses in enumerate(([1.0, 3.0], [5.0, 7.0], [10.0, 12.0])):
        for member, loss in enumerate(losses):
            trainings.append(training(f"{seed}-{member}", {1: loss, 2: loss / 2}, seed=seed))
    assert curves(*trainings) == {("cross_entropy", "deep"): [(1, 6.0, 2.0, 11.0), (2, 3.0, 1.0, 5.5)]}


def test_objectives_are_apart() -> None:
    """A distilled method has a curve of its teachers and one of its own training."""
    teacher = training("a", {1: 2.0}, ("deep", "distilled"))
    student = training("b", {1: 4.0}, ("distilled",), objective="distillation")
    assert curves(teacher, student) == {
        ("cross_entropy", "deep, distilled"): [(1, 2.0, 2.0, 2.0)],
        ("distillation", "distilled"): [(1, 4.0, 4.0, 4.0)],
    }


def test_trunk_and_forks_make_one_curve() -> None:
    """A method's curve has its shared trunk first, then the mean of its forks."""
    trunk = training("a", {1: 4.0}, ("deep", "constrained"))
    rest = training("b", {2: 3.0}, ("deep", "constrained"))
    fork = training("c", {2: 1.0}, ("constrained",))
    found = curves(trunk, rest, fork)
    assert found["cross_entropy", "constrained"] == [(1, 4.0, 4.0, 4.0), (2, 2.0, 2.0, 2.0)]
    assert found["cross_entropy", "deep"] == [(1, 4.0, 4.0, 4.0), (2, 3.0, 3.0, 3.0)]


def test_training_under_way_ends_the_curve() -> None:
    """Epochs that only some trainings have reached are not drawn: their median is of other trainings than before."""
    done = training("a", {1: 4.0, 2: 3.0, 3: 2.0})
    under_way = training("b", {1: 8.0, 2: 7.0}, until=3)
    assert [point[0] for point in curves(done, under_way)["cross_entropy", "deep"]] == [1, 2]


def test_seeds_of_different_length() -> None:
    """An epoch is drawn if every seed has it."""
    long = training("a", {1: 4.0, 2: 3.0, 3: 2.0}, seed=0)
    short = training("b", {2: 7.0}, seed=1)
    assert curves(long, short) == {("cross_entropy", "deep"): [(2, 5.0, 3.0, 7.0)]}


def test_trainings_without_methods() -> None:
    """Events of older runs name no methods: all trainings share a curve, each counting as a seed."""
    first = training("a", {1: 1.0}, (), None, objective="")
    second = training("b", {1: 3.0}, (), None, objective="")
    assert curves(first, second) == {("", "all trainings"): [(1, 2.0, 1.0, 3.0)]}


def test_caption() -> None:
    """It says what median and band are, and how many seeds there are."""
    both = training_curves([training("a", {1: 1.0}, seed=0), training("b", {1: 3.0}, seed=1)])
    assert "Median over 2 seeds, and the range from the lowest to the highest seed (shaded)." in both.caption
    assert "One seed, so no range." in training_curves([training("a", {1: 1.0})]).caption


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


def test_events_that_name_the_data_set(tmp_path: Path) -> None:
    """Their trainings are in its section, shared ones too."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    events = []
    for task, dataset in (("t1", "digits"), ("t2", "cifar10")):
        events += [{**event, "dataset": dataset, "architecture": "resnet20"} for event in epochs(task)]
    figures = figures_of(made(tmp_path / "run", rows, events=events))
    assert [figure.name for figure in figures if figure.name.startswith("training")] == [
        "training_curves-cifar10-resnet20",
        "training_curves-digits-resnet20",
    ]


def test_more_methods_than_a_picture_shows(tmp_path: Path) -> None:
    """The first forty curves are drawn, and the caption says so; the data are complete."""
    events: list[Event] = []
    for task in range(150):
        events += [{**event, "methods": [f"method {task}"], "seed": 0} for event in epochs(f"t{task}", 40)]
    figures = figures_of(made(tmp_path / "run", events=events))
    [figure] = [figure for figure in figures if figure.name.startswith("training")]
    assert "The picture shows the first 40 of 150 curves; the data have all." in figure.plot.caption
    assert len(figure.plot.records) == 150 * 40
    svg = next(path for path in write_figures([figure], tmp_path / "figures") if path.suffix == ".svg")
    assert svg.stat().st_size < 400_000


def test_losses_that_are_not_finite_or_not_positive(tmp_path: Path) -> None:
    """The data hold them, and the curves leave them out."""
    odd = [{**event, "loss": value} for event, value in zip(epochs("t3"), (math.nan, -1.0, 0.0))]
    write_figures(figures_of(made(tmp_path / "run", events=[*EVENTS, *odd])), tmp_path / "figures")
    only = [{**event, "loss": math.inf, "accuracy": math.nan} for event in epochs("t3")]
    write_figures(figures_of(made(tmp_path / "only", events=only)), tmp_path / "figures")
