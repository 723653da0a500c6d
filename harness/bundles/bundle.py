"""A bundle as a value: its ensembles, its rows, and the configurations of its members. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bundles.digests import Digests, FileDigest, read_digests
from harness.bundles.layout import (
    BENCHMARK,
    MAX_ROWS,
    MEMBERS,
    PROVENANCE,
    RESULTS,
    WEIGHTS,
    BundleError,
    check_format,
    file_size,
    member_file,
    read_json,
)
from harness.bundles.member_config import MemberConfig, read_config
from harness.errors import UserError
from harness.results.rows import Row, load_rows
from harness.runs.places import expanded
from harness.store.layout import is_key

Place = tuple[str, str, str, int]
"""Data set, architecture, method (labels) and seed: where an ensemble stands in a benchmark."""


@dataclass(frozen=True)
class EnsembleEntry:
    """An ensemble of a bundle: its place in the benchmark, and the keys of its members, in order."""

    dataset: str
    architecture: str
    method: str
    seed: int
    keys: tuple[str, ...]

    @property
    def place(self) -> Place:
        """Data set, architecture, method and seed."""
        return self.dataset, self.architecture, self.method, self.seed


@dataclass(frozen=True)
class Bundle:
    """A published run. `benchmark` and `provenance` are the contents of the JSON files of these names.

    `folder` is where the bundle lies; `digests` lists its files. Files are read when they are asked for.
    """

    folder: Path
    digests: Digests
    benchmark: Mapping[str, Any]
    provenance: Mapping[str, Any]
    ensembles: tuple[EnsembleEntry, ...]
    _configs: dict[str, MemberConfig] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return str(self.benchmark.get("name", ""))

    @property
    def has_members(self) -> bool:
        """Whether the bundle was published with the weights of its members."""
        return any(name.startswith(f"{MEMBERS}/") for name in self.digests.files)

    def rows(self) -> list[Row]:
        """Return the rows of `results.csv`. Raise `UserError` for a damaged file."""
        path = self.folder / RESULTS
        if file_size(path) > MAX_ROWS:
            raise UserError(f"{path}: has more than {MAX_ROWS} bytes; it is not read")
        return load_rows(path)

    def member_folder(self, key: str) -> Path:
        """Return the folder of a member."""
        return self.folder / MEMBERS / key

    def weights_file(self, key: str) -> Path:
        """Return the file with a member's weights."""
        return self.member_folder(key) / WEIGHTS

    def config(self, key: str) -> MemberConfig:
        """Return what a member is. Raise `BundleError` if it was not published, or if its files are not those listed."""
        if key not in self._configs:
            self._configs[key] = self._read_config(key)
        return self._configs[key]

    def weights_digest(self, key: str) -> FileDigest:
        """Return the digest of a member's weights, as `digests.json` lists it. Raise `BundleError` if it lists none."""
        listed = self.digests.files.get(member_file(key, WEIGHTS))
        if listed is None:
            reason = "was published without members" if not self.has_members else f"has no weights of member {key[:12]}"
            raise BundleError(f"{self.folder}: {reason}; `harness publish` without --no-members publishes them")
        return listed

    def _read_config(self, key: str) -> MemberConfig:
        listed = self.weights_digest(key)
        folder = self.member_folder(key)
        found = file_size(folder / WEIGHTS)
        if found != listed.bytes:
            what = (
                f"has {found} bytes, not {listed.bytes}; was it cut short?" if found else "not there; was the bundle cut short?"
            )
            raise BundleError(f"{folder / WEIGHTS}: {what}")
        config = read_config(folder)
        if config.key != key or config.weights != listed:
            raise BundleError(f"{folder}: its config.json is of other weights than digests.json lists; was it changed?")
        return config


def open_bundle(folder: str | Path) -> Bundle:
    """Return the bundle in a folder. Raise `UserError`, one line, if there is none, or one of a newer format.

    Digests of files are not compared here: `harness verify` does that.
    """
    folder = expanded(os.fspath(folder), "bundle")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that `harness publish DIR --to FOLDER` has written")
    digests = read_digests(folder)
    benchmark = _read_part(folder / BENCHMARK)
    provenance = _read_part(folder / PROVENANCE)
    check_format(folder / PROVENANCE, provenance)
    return Bundle(folder, digests, benchmark, provenance, _ensembles(folder / PROVENANCE, provenance.get("members")))


def _read_part(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: not there, though every bundle has one; was the bundle cut short?")
    return read_json(path)


def _ensembles(path: Path, members: Any) -> tuple[EnsembleEntry, ...]:
    """Return the ensembles of a list of members. Raise `UserError` if it is no such list."""
    keys: dict[Place, dict[int, str]] = {}
    try:
        for entry in members:
            key = entry["key"]
            if not is_key(key):
                raise ValueError(f"key {key!r:.80}")
            place = (str(entry["dataset"]), str(entry["architecture"]), str(entry["method"]), int(entry["seed"]))
            keys.setdefault(place, {})[int(entry["member"])] = key
        for place, found in keys.items():
            if sorted(found) != list(range(len(found))):
                raise ValueError(f"members of {place}")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: does not list members ({type(error).__name__}: {error}); was it changed?") from None
    ensembles = []
    for place, by_index in keys.items():
        ensembles.append(EnsembleEntry(*place, tuple(by_index[index] for index in sorted(by_index))))
    return tuple(ensembles)
