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
    epochs_by_task: dict[str, dict[int, Epoch]] = {}
    latest_by_task: dict[str, Mapping[str, Any]] = {}
    times: dict[str, list[float]] = {"run_started": [], "run_ended": []}
    latest = "run_ended"
    unreadable = 0
    for event in _events(path):
        kind = event.get("event")
        if kind is None:
            unreadable += 1
        elif kind in times:
            latest = kind
            if _is_number(event.get("time")):
                times[kind].append(float(event["time"]))
        elif kind == "epoch":
            epoch = _epoch(event)
            if epoch is None:
                unreadable += 1
            else:
                epochs_by_task.setdefault(str(event["task"]), {})[epoch.epoch] = epoch
                latest_by_task[str(event["task"])] = event
    return Log(
        trainings=_trainings(epochs_by_task, latest_by_task),
        began=tuple(times["run_started"]),
        ended=tuple(times["run_ended"]),
        under_way=latest == "run_started",
        unreadable=unreadable,
        places=_places(latest_by_task),
    )


def joined_log(given: Iterable[Log | None]) -> Log | None:
    """Return the events of several logs; of a training that several have, the longest. None if there is no log."""
    logs = [log for log in given if log is not None]
    if not logs:
        return None
    trainings: dict[str, Training] = {}
    places: dict[str, str] = {}
    for log in logs:
        places.update(log.places)
        for training in log.trainings:
            known = trainings.setdefault(training.task, training)
            if len(training.epochs) > len(known.epochs):
                trainings[training.task] = training
    return Log(
        trainings=tuple(trainings.values()),
        began=tuple(time for log in logs for time in log.began),
        ended=tuple(time for log in logs for time in log.ended),
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
