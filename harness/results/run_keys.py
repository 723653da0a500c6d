"""Keys that only a run's folder explains: those of settings and ensembles, which are no objects of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.results.rows import Row, load_rows
from harness.results.run_json import load_run_json

_REMEDY = "run the benchmark again to write it anew"


class RunKeys:
    """The keys in the rows and among the members of a run, and what they are made of, as far as its folder tells."""

    def __init__(self, folder: Path) -> None:
        """Read `results.csv`, and `run.json` if there is one. Raise `UserError` if a file cannot be read."""
        self._rows = load_rows(folder)
        self._facts = load_run_json(folder, _REMEDY) or {}

    @property
    def store(self) -> Path | None:
        """The run's store, if `run.json` names one."""
        store = self._facts.get("store")
        return Path(store) if isinstance(store, str) else None

    def starting_with(self, prefix: str) -> set[str]:
        """Return the keys with a prefix."""
        found: set[str] = set()
        for row in self._rows:
            found.update(key for key in (row.setting, row.cell, row.key) if key.startswith(prefix) and key)
        for member in self._entries("members"):
            key = str(member.get("key"))
            if key.startswith(prefix):
                found.add(key)
        return found

    def describe(self, key: str) -> dict[str, Any]:
        """Return kind and spec of a key of this run, in the form of a store's objects."""
        kind, spec = self._kind_and_spec(key)
        return {"key": key, "kind": kind, "stored": False, "spec": spec}

    def _kind_and_spec(self, key: str) -> tuple[str, dict[str, Any]]:
        for row in self._rows:
            if row.setting == key:
                return "setting", self._setting(row)
        of_cell = [row for row in self._rows if row.cell == key]
        if of_cell:
            return "cell", self._cell(of_cell)
        for member in self._entries("members"):
            if member.get("key") == key:
                return "member", dict(member)
        measured = next(row for row in self._rows if row.key == key)
        return "measurement", {"metric": measured.metric_version, **self._cell([measured])}

    def _setting(self, row: Row) -> dict[str, Any]:
        """Return data set, architecture and recipe; without `run.json` the labels of the first two."""
        benchmark = self._facts.get("benchmark")
        spec: dict[str, Any] = {"dataset": {"label": row.dataset}, "architecture": {"label": row.architecture}}
        if not isinstance(benchmark, dict):
            return spec
        for name, plural in (("dataset", "datasets"), ("architecture", "architectures")):
            for entry in _mappings(benchmark.get(plural)):
                if entry.get("label") == spec[name]["label"]:
                    spec[name] = dict(entry)
        for pair in _mappings(benchmark.get("pairs")):
            if (pair.get("dataset"), pair.get("architecture")) == (row.dataset, row.architecture):
                spec["recipe"] = pair.get("recipe")
        return spec

    def _cell(self, rows: list[Row]) -> dict[str, Any]:
        """Return the setting, the methods that built the ensemble, its seed and its members."""
        first = rows[0]
        methods = {row.method: {"label": row.method, "version": row.method_version, "options": row.options} for row in rows}
        place = (first.dataset, first.architecture, first.method, first.seed)
        members = []
        for member in self._entries("members"):
            if tuple(member.get(name) for name in ("dataset", "architecture", "method", "seed")) == place:
                members.append(member.get("key"))
        return {
            **self._setting(first),
            "setting": first.setting,
            "methods": list(methods.values()),
            "seed": first.seed,
            "size": first.members,
            "members": members,
        }

    def _entries(self, name: str) -> Iterable[Mapping[str, Any]]:
        return _mappings(self._facts.get(name))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a JSON list; nothing for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
