"""Progress lines for a log file: few, whatever the number and length of trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.api.task import Task
from harness.execution.annotator import EventAnnotator, describe
from harness.execution.run_plan import RunPlan
from harness.plan.graph import Graph
from harness.runs.progress_lines import Lines
from harness.telemetry import events


class Log:
    """The progress lines of a run, with a clock that the test sets."""

    def __init__(self, graph: Graph) -> None:
        self.lines: list[str] = []
        self.seconds = 0.0
        self._graph = graph
        self.show = Lines(RunPlan(graph), self.lines.append, lambda: self.seconds).show
        self._annotate = EventAnnotator(RunPlan(graph), Path("runs/toys"))
        epochs = sum(task.cost for task in graph.tasks.values())
        self.show(events.RunPlanned(cells=1, tasks=len(graph.tasks), epochs=epochs, epochs_in_all=epochs))

    def tasks(self, *, training: bool) -> list[Task]:
        """Return the tasks that train, or all others."""
        return [task for task in self._graph.tasks.values() if (task.kind == "train") == training]

    def trainings(self) -> list[Task]:
        return self.tasks(training=True)

    def epoch(self, task: Task, epoch: int) -> None:
        self.show(
            events.EpochEnded(
                task=task.key,
                kind=task.kind,
                description=describe(task),
                epoch=epoch,
                until=100,
                loss=1.0,
                accuracy=50.0,
                learning_rate=0.1,
                seconds=10.0,
            )
        )

    def annotated(self, event: events.Event) -> events.Event:
        return self._annotate(event)

    def start(self, task: Task) -> None:
        self.show(self._annotate(events.TaskStarted(task=task.key, kind=task.kind)))

    def end(self, task: Task, status: str = "done", message: str = "") -> None:
        ended = events.TaskEnded(task=task.key, kind=task.kind, description=describe(task), status=status, message=message)
        self.show(ended)


@pytest.fixture
def log_of(graph_of: Callable[..., Graph]) -> Callable[..., Log]:
    """Return a function that makes the log of a run of toys."""
    recipe: dict[str, Any] = {"epochs": 100, "batch_size": 16, "learning_rate": 0.1}
    recipe["augmentation"] = {"crop_padding": 0, "horizontal_flip": False}
    return lambda **changes: Log(graph_of(**{"methods": ["deep"], "recipe": recipe, **changes}))


def test_training_that_another_run_does(log_of: Callable[..., Log]) -> None:
    """It is not called trained, and this run has that much less to train; further ones are counted at the end."""
    log = log_of(members=3)
    first, second, third = log.trainings()
    for task in (first, second):
        log.show(events.TaskEnded(task=task.key, kind="train", description=describe(task), status="done", taken_over=True))
    log.seconds += 100
    log.epoch(third, 50)
    assert log.lines[1:] == [
        "taken over: perceptron on blobs, seed 0 member 0, cross-entropy: another run has done it",
        "training perceptron on blobs, seed 0 member 2, cross-entropy, epoch 50 of 100: loss 1.0000, accuracy 50.0 % "
        "(50 of 100 epochs, 01:40 left)",
    ]
    log.show(events.RunEnded(status="done"))
    assert log.lines[-1] == "taken over 1 more time for the same reason: another run has done it"


def test_long_training(log_of: Callable[..., Log]) -> None:
    """It gives one line per minute, with the progress of training and run and the remaining time."""
    log = log_of(members=2)
    first = log.trainings()[0]
    for epoch in range(1, 31):
        log.seconds += 10
        log.epoch(first, epoch)
    assert len(log.lines) == 1 + 5
    assert log.lines[0] == "1 cells: 6 tasks to do, 200 epochs to train"
    assert log.lines[-1] == (
        "training perceptron on blobs, seed 0 member 0, cross-entropy, epoch 30 of 100: loss 1.0000, accuracy 50.0 % "
        "(30 of 200 epochs, 28:20 left)"
    )


def test_thousand_short_trainings(log_of: Callable[..., Log]) -> None:
    """They give one line for every twentieth of the epochs."""
    log = log_of(members=2, seeds=list(range(500)))
    for task in log.trainings():
        log.seconds += 0.01
        log.epoch(task, 100)
        log.end(task)
    assert len(log.trainings()) == 1000
    assert len(log.lines) == 1 + 20
    assert log.lines[-1].endswith("(100000 of 100000 epochs, 00:00 left)")


def test_few_trainings(log_of: Callable[..., Log]) -> None:
    """They give one line each."""
    log = log_of(members=3)
    for task in log.trainings():
        log.epoch(task, 100)
        log.end(task)
    assert [line.split(",")[1] for line in log.lines[1:]] == [f" seed 0 member {i}" for i in range(3)]


def test_long_measurements(log_of: Callable[..., Log]) -> None:
    """Tasks that train nothing give a line with their count, once per minute."""
    log = log_of(members=2)
    for task in log.trainings():
        log.end(task)
    rest = log.tasks(training=False)
    for task in rest:
        log.seconds += 100
        log.end(task)
    assert log.lines[-1] == "6 of 6 tasks have ended (200 of 200 epochs, 00:00 left)"
    assert len(log.lines) == 1 + 2 + len(rest)


def test_thousand_equal_failures(log_of: Callable[..., Log]) -> None:
    """The first one gives a line, and the end of the run a line with the number of the others."""
    log = log_of(members=2, seeds=list(range(500)))
    for task in log.trainings():
        log.end(task, "failed", "it diverged")
    log.show(events.RunEnded(status="failed"))
    assert log.lines[1:] == [
        "failed: perceptron on blobs, seed 0 member 0, cross-entropy: it diverged",
        "failed 999 more times for the same reason: it diverged",
    ]


def test_thousand_different_failures(log_of: Callable[..., Log]) -> None:
    """The first ones give a line each, and a last line names the file with the others."""
    log = log_of(members=2, seeds=list(range(500)))
    for number, task in enumerate(log.trainings()):
        log.end(task, "failed", f"it diverged at step {number}")
    assert len(log.lines) == 1 + 20 + 1
    assert log.lines[-1] == "further lines of this kind (failed) are left out; events.jsonl in the run's folder has them all"


def test_equal_warnings(log_of: Callable[..., Log]) -> None:
    """They give one line, and their number at the end."""
    log = log_of(members=2)
    for _ in range(3):
        log.show(events.RunWarning(message="the disk is slow"))
    log.show(events.RunEnded(status="done"))
    assert log.lines[1:] == ["warning: the disk is slow", "warning 2 more times for the same reason: the disk is slow"]


def test_first_measurement(log_of: Callable[..., Log]) -> None:
    """The first task of each kind gives a line when it begins, since it may take long."""
    log = log_of(members=2)
    for task in log.trainings():
        log.end(task)
    before = len(log.lines)
    for task in log.tasks(training=False):
        log.start(task)
        log.end(task)
    assert log.lines[before:] == [
        "predicting member 0 of deep, seed 0, perceptron on blobs (2 of 6 tasks have ended)",
        "measuring ensemble_accuracy of deep, seed 0, perceptron on blobs (4 of 6 tasks have ended)",
    ]


def test_derivation_that_trains(log_of: Callable[..., Log]) -> None:
    """Its epochs give a line a minute at most; its cost counts as done once it has ended."""
    from descents import BENCHMARK, CATALOGUE

    log = log_of(catalogue=CATALOGUE, **BENCHMARK)
    [task] = [task for task in log.tasks(training=False) if task.kind == "derive"]
    log.start(task)
    said = len(log.lines)
    for epoch in range(1, 5):
        log.seconds += 20
        log.show(log.annotated(events.DerivationEpochEnded(task=task.key, kind="derive", epoch=epoch, seconds=20.0)))
    [line] = log.lines[said:]
    assert line == "deriving descent of descended, seed 0, perceptron on blobs, epoch 3 (0 of 8 tasks have ended)"
    log.seconds += 100
    log.end(task)
    assert log.lines[-1].startswith("1 of 8 tasks have ended (2 of 202 epochs, ")
