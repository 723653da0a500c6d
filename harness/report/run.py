"""Read a run's folder for the report: `results.csv`, `run.json` and `events.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.api.figure import Epoch, Training
from harness.errors import UserError
from harness.results.rows import read_rows
from harness.results.run_json import load_run_json

if TYPE_CHECKING:
    import pandas as pd

SHARED_TRAININGS = "trainings that several ensembles share"
"""Name of the section for trainings whose data set and architecture are not known."""

_STATUS = {
    "done": "",
    "failed": "Some cells failed: the numbers they would have given are lacking, the reasons are listed under Provenance.",
    "interrupted": "The run was interrupted. The command that started it goes on where it stopped.",
}

_MISSING_VALUES = {"failed": "could not be computed", "missing": "have not been computed yet"}


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


@dataclass(frozen=True)
class Run:
    """A run's folder. `facts` is the content of `run.json`, `log` of `events.jsonl`; None if the file is missing."""

    folder: Path
    rows: pd.DataFrame
    facts: Mapping[str, Any] | None
    log: Log | None

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why the run is not complete, one sentence per reason; empty if it is complete."""
        main = self.rows[self.rows["main"]]
        reasons = [self._state()]
        for status, description in _MISSING_VALUES.items():
            count = int((main["status"] == status).sum())
            if count:
                reasons.append(f"{count} of {len(main)} numbers {description}.")
        return tuple(filter(None, reasons))

    def _state(self) -> str:
        """Return a sentence about the run's status; "" if the run is done."""
        if self.log is not None and self.log.under_way:
            return "The latest run on this folder has not ended: it is under way, or it was killed."
        if self.facts is None:
            return "There is no run.json: the run has not ended, or the file was not copied along."
        status = str(self.facts.get("status", ""))
        return _STATUS.get(status, f"run.json gives the run no known status, but '{status}'.")


def read_run(folder: str | Path) -> Run:
    """Return the content of a run's folder. Only `results.csv` must exist. Raise `UserError` for a damaged file."""
    folder = Path(folder)
    rows = read_rows(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name the one that `harness run FILE --out DIR` has written")
    facts = load_run_json(folder, "remove it to make a report without it")
    return Run(folder, rows, facts, _read_log(folder / "events.jsonl"))


def place(dataset: object, architecture: object) -> str:
    """Return the heading for a data set and an architecture."""
    return f"{dataset}, {architecture}"


def builders(run: Run) -> dict[str, str]:
    """Return the registered name of each method by its label, for the methods listed in `run.json`."""
    found = {}
    for pair in entries(mapping(mapping(run.facts).get("benchmark")).get("pairs")):
        for method in entries(pair.get("methods")):
            if "name" in method:
                found[str(method.get("label"))] = str(method["name"])
    return found


def trainings_by_place(run: Run) -> dict[str, tuple[Training, ...]]:
    """Return the trainings by data set and architecture, in order of first appearance.

    The events name data set and architecture. Those of older runs do not: then `run.json` lists the trainings of the members,
    and all others are in a section named `SHARED_TRAININGS`, unless the run has a single data set and architecture.
    """
    if run.log is None:
        return {}
    places = {place(row.dataset, row.architecture) for row in run.rows[["dataset", "architecture"]].itertuples()}
    only = next(iter(places)) if len(places) == 1 else None
    known: dict[str, str] = {}
    for member in entries(mapping(run.facts).get("members")):
        known[str(member.get("object"))] = place(member.get("dataset"), member.get("architecture"))
    found: dict[str, list[Training]] = {}
    for training in run.log.trainings:
        section = only or known.get(training.task, SHARED_TRAININGS)
        if run.log.places.get(training.task) in places:
            section = run.log.places[training.task]
        found.setdefault(section, []).append(training)
    return {section: tuple(trainings) for section, trainings in found.items()}


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON value if it is an object, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a JSON array; none if the value is no array."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def _read_log(path: Path) -> Log | None:
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
                    yield mapping(json.loads(line))
                except (ValueError, RecursionError):
                    yield {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


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
