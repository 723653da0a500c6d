"""What the loggers have in common: one logged run per training, which a resumed training continues, and results at the end."""

from __future__ import annotations

import contextlib
import importlib.util
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harness import ObservedRun, Observer, RunResults, UserError, events

_MAX_IDLE = 8  # trainings that wait for their next part with an open run; each costs threads and files


class Curves(Protocol):
    """The logged run of one training."""

    def log(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values of one epoch."""

    def close(self) -> None:
        """Write what is left, and release the run."""


@dataclass(frozen=True)
class Training:
    """A training: one trajectory with its key.

    `path` names it: data set, architecture and method; seed and member; the objective, unless it is that of plain training; and
    the beginning of the key, since a method may train one member several times. The method is the first one in the file's order
    that needs the weights at the training's end. `first_epoch` is the first one that is logged now: earlier ones were logged
    before, or belong to the training that this one was forked from.
    """

    key: str
    path: tuple[str, ...]
    first_epoch: int
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The path as one text: `digits/vit/deep/seed 0/member 1 1a2b3c4d`."""
        return "/".join(self.path)


def training_of(event: events.EpochEnded, run: ObservedRun) -> Training:
    """Return the training that an epoch belongs to."""
    path = [event.dataset, event.architecture, event.trained_for]
    if event.seed is not None:
        path.append(f"seed {event.seed}")
    if event.member is not None:
        path.append(f"member {event.member}")
    if event.objective != run.objective:
        path.append(event.objective)
    path[-1] = f"{path[-1]} {event.trajectory[:8]}"
    settings = {
        "benchmark": run.benchmark,
        "dataset": event.dataset,
        "architecture": event.architecture,
        "method": event.trained_for,
        "methods": list(event.methods),
        "seed": event.seed,
        "member": event.member,
        "objective": event.objective,
        "trajectory": event.trajectory,
        "recipe": _recipe(run, event),
    }
    return Training(event.trajectory, tuple(path), event.epoch, settings)


def _recipe(run: ObservedRun, event: events.EpochEnded) -> dict[str, Any]:
    for setup in run.settings["pairs"]:
        if (setup["dataset"], setup["architecture"]) == (event.dataset, event.architecture):
            return dict(setup["recipe"])
    return {}


class TrainingLogger(Observer):
    """Base class of the loggers: finds the training that an epoch belongs to, and closes it when no more epochs come."""

    package: ClassVar[str]
    """The package that the logger needs. The extra has the logger's name."""

    def check(self) -> None:
        """Raise `UserError` if the package is not installed."""
        if importlib.util.find_spec(self.package) is None:
            raise UserError(f"the package '{self.package}' is not installed; pip install 'basin-harness[{self.name}]'")

    def start(self, run: ObservedRun) -> None:
        """Keep the facts about the run."""
        self.run = run
        self._open: dict[str, Curves] = {}  # by trajectory
        self._idle: list[str] = []

    @abstractmethod
    def open_training(self, training: Training) -> Curves:
        """Return the logged run of a training: a new one, or the one that it had before."""

    @abstractmethod
    def log_results(self, results: RunResults) -> None:
        """Log the values of each cell, and the board."""

    def observe(self, event: events.Event) -> None:
        """Log the end of an epoch."""
        if isinstance(event, events.EpochEnded) and event.trajectory:
            if event.trajectory not in self._open:
                self._open[event.trajectory] = self.open_training(training_of(event, self.run))
            values = {"loss": event.loss, "accuracy": event.accuracy, "learning_rate": event.learning_rate}
            self._open[event.trajectory].log(event.epoch, values)
            self._set_idle(event.trajectory, idle=False)
        elif isinstance(event, events.TaskEnded) and event.trajectory in self._open:
            self._set_idle(event.trajectory, idle=True)

    def finish(self, results: RunResults) -> None:
        """Close all trainings. Log the results, unless the run was interrupted: then the next one logs them."""
        self._close_all()
        if results.status != "interrupted":
            self.log_results(results)

    def close(self) -> None:
        """Close all trainings."""
        with contextlib.suppress(Exception):  # an earlier error is what counts
            self._close_all()

    def _set_idle(self, trajectory: str, *, idle: bool) -> None:
        """Note whether a training may have ended. Close the one that has waited longest for its next part, if too many wait."""
        if trajectory in self._idle:
            self._idle.remove(trajectory)
        if idle:
            self._idle.append(trajectory)
        if len(self._idle) > _MAX_IDLE:
            self._open.pop(self._idle.pop(0)).close()

    def _close_all(self) -> None:
        self._idle.clear()
        while self._open:
            _, curves = self._open.popitem()
            curves.close()
