"""A run's folder as a value: its rows, what `run.json` says, how its trainings went. The only module of the report that reads
a run's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.figure import Epoch, Training
from harness.errors import UserError
from harness.results.rows import read_rows
from harness.results.run_json import load_run_json

if TYPE_CHECKING:
    import pandas as pd

SHARED_TRAININGS = "trainings that several ensembles share"
"""The section of trainings that are not known to be of one data set and architecture."""

_STATUS = {
    "done": "",
    "failed": "Some cells failed: the numbers they would have given are lacking, the reasons are listed under Provenance.",
    "interrupted": "The run was interrupted. The command that started it goes on where it stopped.",
}


@dataclass(frozen=True)
class Log:
    """What `events.jsonl` tells: trainings, when runs on this folder began and ended (Unix time), lines that are no events."""

    trainings: tuple[Training, ...]
    began: tuple[float, ...]
    ended: tuple[float, ...]
    under_way: bool
    unreadable: int


@dataclass(frozen=True)
class Run:
    """A run's folder. `facts` is its `run.json` and `log` its `events.jsonl`; None: there is no such file."""

    folder: Path
    rows: pd.DataFrame
    facts: Mapping[str, Any] | None
    log: Log | None

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why the run is not complete, a sentence a reason; empty if it is."""
        main = self.rows[self.rows["main"]]
        lacking = {status: int((main["status"] == status).sum()) for status in ("failed", "missing")}
        told = [f"{n} of {len(main)} numbers {_WORDS[status]}." for status, n in lacking.items() if n]
        return tuple(filter(None, [self._state(), *told]))

    def _state(self) -> str:
        if self.log is not None and self.log.under_way:
            return "The latest run on this folder has not ended: it is under way, or it was killed."
        if self.facts is None:
            return "There is no run.json: the run has not ended, or the file was not copied along."
        status = str(self.facts.get("status", ""))
        return _STATUS.get(status, f"run.json gives the run no known status, but '{status}'.")


_WORDS = {"failed": "could not be computed", "missing": "have not been computed yet"}


def read_run(folder: str | Path) -> Run:
    """Return a run's folder. Only its `results.csv` must be there; a file that is damaged raises `UserError`."""
    folder = Path(folder)
    rows = read_rows(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name the one that `harness run FILE --out DIR` has written")
    facts = load_run_json(folder, "remove it to make a report without it")
    return Run(folder, rows, facts, _read_log(folder / "events.jsonl"))


def place(dataset: object, architecture: object) -> str:
    """Return what the page calls a data set and an architecture together."""
    return f"{dataset}, {architecture}"


def builders(run: Run) -> dict[str, str]:
    """Return the registered name of the method that each label stands for, as far as `run.json` tells."""
    found = {}
    for pair in entries(mapping(mapping(run.facts).get("benchmark")).get("pairs")):
        for method in entries(pair.get("methods")):
            if "name" in method:
                found[str(method.get("label"))] = str(method["name"])
    return found


def trainings_by_place(run: Run) -> dict[str, tuple[Training, ...]]:
    """Return the trainings of each data set and architecture, in order of first appearance.

    `run.json` knows of which a member's own training is. What several ensembles share stands apart, unless the run has a single
    data set and architecture.
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
        found.setdefault(section, []).append(training)
    return {section: tuple(trainings) for section, trainings in found.items()}


def mapping(value: Any) -> Mapping[str, Any]:
    """Return what a JSON file holds at a place where it should hold a mapping; an empty one if it does not."""
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of what should be a list of them."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _read_log(path: Path) -> Log | None:
    """Read events; what a killed run left of its last line is counted, and an epoch trained again counts as trained last."""
    if not path.exists():
        return None
    trainings: dict[str, dict[int, Epoch]] = {}
    times: dict[str, list[float]] = {"run_started": [], "run_ended": []}
    latest, unreadable = "run_ended", 0
    for event in _events(path):
        kind = event.get("event")
        if kind is None:
            unreadable += 1
        elif kind in times:
            latest = kind
            times[kind] += [float(event["time"])] if _is_number(event.get("time")) else []
        elif kind == "epoch":
            epoch = _epoch(event)
            if epoch is None:
                unreadable += 1
            else:
                trainings.setdefault(str(event["task"]), {})[epoch.epoch] = epoch
    found = (Training(task, tuple(epochs[e] for e in sorted(epochs))) for task, epochs in trainings.items())
    return Log(tuple(found), tuple(times["run_started"]), tuple(times["run_ended"]), latest == "run_started", unreadable)


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a file; an empty mapping for a line that is none."""
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
    number, loss, accuracy = (event.get(name) for name in ("epoch", "loss", "accuracy"))
    if not ("task" in event and type(number) is int and _is_number(loss) and _is_number(accuracy)):
        return None
    return Epoch(number, float(loss), float(accuracy))  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
