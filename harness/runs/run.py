"""A run's folder as a Python object: rows, board and members. Trains nothing, and imports torch for weights only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.leaderboard import board, compare, read_reference, render
from harness.results.rows import read_rows
from harness.results.run_json import load_run_json
from harness.runs.member import FILTERS, Member
from harness.text import single_line

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "run the benchmark again to write it anew"


class Run:
    """A run's folder, finished or not. Files are read when they are asked for, so that an unfinished run can be watched."""

    def __init__(self, folder: str | Path, store: str | Path | None = None) -> None:
        """Open a folder; `store` is where the store lies if it was moved since the run. Use `harness.open_run`."""
        self.folder = Path(folder)
        self._store = None if store is None else Path(store)

    @property
    def rows(self) -> pd.DataFrame:
        """One row per value: the columns of `results.csv` with their types. Raise `UserError` if there is no such file."""
        return read_rows(self.folder)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `run.json` holds: benchmark, command, members, provenance. Empty as long as there is no such file."""
        return load_run_json(self.folder, _REMEDY) or {}

    @property
    def status(self) -> str:
        """`done`, `failed` (some cells), `interrupted`, `running` (or killed), or empty if the run has written nothing yet."""
        return str(self.facts.get("status", ""))

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The cells that failed: dataset, architecture, method, seed, message, and the metrics that lack a value."""
        return list(self.facts.get("failures", ()))

    def leaderboard(
        self,
        format: str = "markdown",  # noqa: A002 - as the command calls it
        *,
        metrics: str = "main",
        reference: str | Path | None = None,
    ) -> str:
        """Return the board as text, as `harness leaderboard` prints it.

        `format`: markdown, html, csv, json or latex. `metrics`: main, all, or names separated by commas. `reference` is a CSV
        file of published numbers to compare with.
        """
        shown = board({str(self.folder): self.rows}, metrics)
        if reference is not None:
            return render(compare(shown, read_reference(Path(reference))), format)
        return render(shown, format)

    def members(self, **filters: str | int) -> list[Member]:
        """Return the members of all ensembles, in the order of the benchmark, or of those that the filters name.

        Filters are `dataset`, `architecture`, `method` (labels), `seed` and `member` (the index in its ensemble). Raise
        `UserError` for another filter, and for a value that no member has.
        """
        known = [Member.from_json(entry, self._store_folder()) for entry in self._member_entries()]
        found = known
        for name, value in filters.items():
            if name not in FILTERS:
                raise UserError(f"members of {self.folder}: unknown filter '{name}'{did_you_mean(name, FILTERS)}")
            values = dict.fromkeys(getattr(member, name) for member in known)
            if value not in values:
                choices = did_you_mean(str(value), [str(choice) for choice in values])
                raise UserError(f"members of {self.folder}: no {name} '{single_line(str(value))}'{choices}")
            found = [member for member in found if getattr(member, name) == value]
        return found

    def _member_entries(self) -> list[Mapping[str, Any]]:
        facts = load_run_json(self.folder, _REMEDY)
        if facts is None:
            raise UserError(f"{self.folder}: no run.json; name a folder that a run has written")
        entries = facts.get("members")
        if not isinstance(entries, list):
            raise UserError(f"{self.folder / 'run.json'}: does not list members; {_REMEDY}")
        return entries

    def _store_folder(self) -> Path:
        if self._store is not None:
            return self._store
        store = self.facts.get("store")
        if not isinstance(store, str):
            raise UserError(f"{self.folder / 'run.json'}: does not name the store; {_REMEDY}")
        return Path(store)

    def __repr__(self) -> str:
        status = self.status or "nothing written yet"
        return f"Run('{self.folder}', {status})"

    def _repr_html_(self) -> str:
        """Return the board, for notebooks."""
        return self.leaderboard("html")


def open_run(folder: str | Path, store: str | Path | None = None) -> Run:
    """Open the folder of a finished or unfinished run. Nothing is trained.

    `store` names the store's folder if it was moved since. Raise `UserError` if the folder holds no rows of a run.
    """
    run = Run(folder, store)
    if not (run.folder / "results.csv").is_file():
        raise UserError(f"{run.folder}: no results.csv; name a folder that `harness run` or `harness.run` has written")
    return run
