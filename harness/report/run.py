"""Read the folders of runs for the report: `results.csv`, `run.json` and `events.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.figure import Training
from harness.errors import UserError
from harness.leaderboard import Table
from harness.leaderboard.merging import check_settings, merge_rows, sourced_rows
from harness.report.event_log import Log, joined_log, place, read_log
from harness.results.rows import frame, read_rows
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
class Run:
    """A run's folder. `facts` is the content of `run.json`, `log` of `events.jsonl`; None if the file is missing.

    A run that was joined from several has these as `parts`. Its `rows` and `log` are those of all parts, and its `folder` and
    `facts` those of the first.
    """

    folder: Path
    rows: pd.DataFrame
    facts: Mapping[str, Any] | None
    log: Log | None
    parts: tuple[Run, ...] = ()

    @property
    def named_parts(self) -> dict[str, Run]:
        """The runs that this one was joined from, by the name of their folder. A number distinguishes equal names."""
        named: dict[str, Run] = {}
        for part in self.parts:
            stem = part.folder.resolve().name
            name = stem
            number = 1
            while name in named:
                number += 1
                name = f"{stem} ({number})"
            named[name] = part
        return named

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The rows of each part, or of this run alone, by folder: the input of `harness.leaderboard.board`."""
        return {str(part.folder): part.rows for part in self.parts or (self,)}

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why the run is not complete, one sentence per reason; empty if it is complete."""
        main = self.rows[self.rows["main"]]
        reasons = []
        for name, part in self.named_parts.items():
            state = part._state()
            if state:
                reasons.append(f"{name}: {state}")
        if not self.parts:
            reasons.append(self._state())
        for status, description in _MISSING_VALUES.items():
            count = int((main["status"] == status).sum())
            if count:
                reasons.append(f"{count} of {len(main)} numbers {description}.")
        return tuple(filter(None, reasons))

    def facts_of(self, table: Table) -> tuple[Mapping[str, Any], Path]:
        """Return the facts and the folder of the first part that has rows of a table."""
        for part in self.parts or (self,):
            if not rows_of_table(part.rows, table).empty:
                return part.facts or {}, part.folder
        return self.facts or {}, self.folder

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
    return Run(folder, rows, facts, read_log(folder / "events.jsonl"))


def read_runs(folders: Sequence[str | Path]) -> Run:
    """Return the content of one folder, or of several joined: the rows as one board has them, trainings and times of all.

    Raise `UserError` for a damaged file, and for rows that one table cannot hold.
    """
    runs = [read_run(folder) for folder in dict.fromkeys(map(Path, folders))]
    if len(runs) == 1:
        return runs[0]
    sourced = sourced_rows({str(run.folder): run.rows for run in runs})
    check_settings(sourced)
    rows = frame([item.row for item in merge_rows(sourced, ())])
    return Run(runs[0].folder, rows, runs[0].facts, joined_log([run.log for run in runs]), tuple(runs))


def rows_of_table(rows: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Return the rows of a table's benchmark, data set and architecture."""
    selected = (
        (rows["benchmark"] == table.benchmark)
        & (rows["dataset"] == table.dataset)
        & (rows["architecture"] == table.architecture)
    )
    return rows[selected].reset_index(drop=True)


def builders(run: Run) -> dict[str, str]:
    """Return the registered name of each method by its label, for the methods listed in `run.json`."""
    found: dict[str, str] = {}
    for part in run.parts or (run,):
        for pair in entries(mapping(mapping(part.facts).get("benchmark")).get("pairs")):
            for method in entries(pair.get("methods")):
                if "name" in method:
                    found.setdefault(str(method.get("label")), str(method["name"]))
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
    for part in run.parts or (run,):
        for member in entries(mapping(part.facts).get("members")):
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
