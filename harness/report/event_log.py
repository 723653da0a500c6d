"""`events.jsonl` as the report reads it: trainings, and when runs began and ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from harness.api.figure import Epoch, Training
from harness.errors import UserError


@dataclass(frozen=True)
class Log:
    """The content of `events.jsonl`.

    `began` and `ended` are the times at which runs in this folder began and ended, in seconds since 1970. `under_way` is
    True if the latest run has not ended. `unreadable` is the number of lines that are no events. `places` are the headings of
    the trainings' sections by task, as far as the events name data set and architecture.
    """

    trainings: tuple[Training, ...]
    began: tuple[float, ...]
    ended: tuple[float, ...]
    under_way: bool
    unreadable: int
    places: Mapping[str, str] = field(default_factory=dict)


def read_log(path: Path) -> Log | None:
    """Return the content of an event log; of an epoch that was trained several times, the last one."""
    if not path.exists():
        return None
    reader = _LogReader()
    for event in _events(path):
        reader.add(event)
    return reader.log()


class _LogReader:
    """Collects what the report needs of the events of a file, which are JSON objects that may lack fields."""

    def __init__(self) -> None:
        self._epochs_by_task: dict[str, dict[int, Epoch]] = {}
        self._latest_by_task: dict[str, Mapping[str, Any]] = {}
        self._began: list[float] = []
        self._ended: list[float] = []
        self._under_way = False
        self._unreadable = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Add the next event; an empty one stands for a line that is no event."""
        kind = event.get("event")
        if kind is None:
            self._unreadable += 1
        elif kind == "run_started":
            self._under_way = True
            self._began += _time(event)
        elif kind == "run_ended":
            self._under_way = False
            self._ended += _time(event)
        elif kind == "epoch":
            self._add_epoch(event)

    def _add_epoch(self, event: Mapping[str, Any]) -> None:
        epoch = _epoch(event)
        if epoch is None:
            self._unreadable += 1
            return
        task = str(event["task"])
        self._epochs_by_task.setdefault(task, {})[epoch.epoch] = epoch
        self._latest_by_task[task] = event

    def log(self) -> Log:
        """Return the content of the events so far."""
        return Log(
            trainings=_trainings(self._epochs_by_task, self._latest_by_task),
            began=tuple(self._began),
            ended=tuple(self._ended),
            under_way=self._under_way,
            unreadable=self._unreadable,
            places=_places(self._latest_by_task),
        )


def joined_log(given: Iterable[Log | None]) -> Log | None:
    """Return the events of several logs; of a training that several have, the longest. None if there is no log."""
    logs = [log for log in given if log is not None]
    if not logs:
        return None
    trainings: dict[str, Training] = {}
    began: list[float] = []
    ended: list[float] = []
    places: dict[str, str] = {}
    for log in logs:
        began += log.began
        ended += log.ended
        places.update(log.places)
        for training in log.trainings:
            known = trainings.setdefault(training.task, training)
            if len(training.epochs) > len(known.epochs):
                trainings[training.task] = training
    return Log(
        trainings=tuple(trainings.values()),
        began=tuple(began),
        ended=tuple(ended),
        under_way=any(log.under_way for log in logs),
        unreadable=sum(log.unreadable for log in logs),
        places=places,
    )


def place(dataset: object, architecture: object) -> str:
    """Return the heading for a data set and an architecture."""
    return f"{dataset}, {architecture}"


def _trainings(
    epochs_by_task: Mapping[str, Mapping[int, Epoch]], events: Mapping[str, Mapping[str, Any]]
) -> tuple[Training, ...]:
    """Return the trainings. `events` has an event of each, whose fields that are missing or of a wrong type do not count."""
    trainings = []
    for task, epochs in epochs_by_task.items():
        event = events[task]
        methods = event.get("methods")
        if not isinstance(methods, list):
            methods = []
        objective = event.get("objective")
        trainings.append(
            Training(
                task=task,
                epochs=tuple(epochs[number] for number in sorted(epochs)),
                methods=tuple(method for method in methods if isinstance(method, str)),
                seed=_integer(event.get("seed")),
                member=_integer(event.get("member")),
                objective=objective if isinstance(objective, str) else "",
                until=_integer(event.get("until")),
            )
        )
    return tuple(trainings)


def _places(events: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the heading of each training whose event names data set and architecture."""
    places = {}
    for task, event in events.items():
        if event.get("dataset") and event.get("architecture"):
            places[task] = place(event["dataset"], event["architecture"])
    return places


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a file, and an empty mapping for a line that is no event, such as a partly written last line."""
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _event(json.loads(line))
                except (ValueError, RecursionError):
                    yield {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _event(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(event: Mapping[str, Any]) -> list[float]:
    """Return the time of an event, in seconds since 1970, as a list of one; an empty list if it has none."""
    time = event.get("time")
    return [float(time)] if _is_number(time) else []


def _epoch(event: Mapping[str, Any]) -> Epoch | None:
    """Return the epoch that an event reports; None if a field is missing or of a wrong type."""
    number, loss, accuracy = event.get("epoch"), event.get("loss"), event.get("accuracy")
    if "task" not in event or type(number) is not int:
        return None
    if not _is_number(loss) or not _is_number(accuracy):
        return None
    return Epoch(number, float(loss), float(accuracy))


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)
