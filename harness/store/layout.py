"""The paths of a store. No other module knows the names of its files and folders.

ROOT/objects/ab/<key>/         meta.json and one .safetensors file per part
ROOT/progress/ab/<key>/        training states, a folder per step; removed when the training ends
ROOT/trajectories/ab/<key>     which epochs of a trajectory are stored, one per line
ROOT/tasks/ab/<key>.json       the task for `harness worker` that makes an object
ROOT/failures/ab/<key>.json    the last failed attempt at a task
ROOT/leases/<key>.lock         locked while a process works on a task
ROOT/runs/                     the runs that use the store now
ROOT/set_aside/                the quarantine: entries that did not match their digests
ROOT/aside/                    the staging area: one folder per process, for unfinished writes
"""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard

from harness import files

_KEY = re.compile(r"[0-9a-f]{64}")


class Folder(StrEnum):
    """The folders of a store; a member's value is the folder's name."""

    OBJECTS = "objects"
    TRAINING_STATES = "progress"
    TRAJECTORY_INDEX = "trajectories"
    TASKS = "tasks"
    FAILURES = "failures"
    LEASES = "leases"
    RUNS = "runs"
    QUARANTINE = "set_aside"
    STAGING = "aside"


KEYED = (
    Folder.OBJECTS,
    Folder.TRAINING_STATES,
    Folder.TRAJECTORY_INDEX,
    Folder.TASKS,
    Folder.FAILURES,
)
"""The folders whose entries are named by keys: FOLDER/ab/<key>."""

FLAT = (Folder.QUARANTINE, Folder.LEASES, Folder.RUNS, Folder.STAGING)
"""The folders without such a subdivision."""

_JSON = (Folder.TASKS, Folder.FAILURES)


def is_key(text: object) -> TypeGuard[str]:
    """Return whether a value is a key: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


class Layout:
    """The paths of one store.

    `root` is the folder as the user named it, for messages. `base` is its absolute path, since a
    plugin may change the working folder. Methods that take a key raise `ValueError` for anything
    else, so that nothing but a key becomes part of a path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root.absolute()

    def folder(self, folder: Folder) -> Path:
        """Return the path of one of the store's folders."""
        return self.base / folder

    def object_folder(self, key: str) -> Path:
        """Return the folder of an object."""
        return self._keyed(Folder.OBJECTS, key)

    def states_folder(self, trajectory: str) -> Path:
        """Return the folder of all states of one training."""
        return self._keyed(Folder.TRAINING_STATES, trajectory)

    def state_folder(self, trajectory: str, step: int) -> Path:
        """Return the folder of the state of a training at a step."""
        return self.states_folder(trajectory) / str(int(step))

    def index_file(self, trajectory: str) -> Path:
        """Return the file that lists the stored checkpoints of a trajectory."""
        return self._keyed(Folder.TRAJECTORY_INDEX, trajectory)

    def task_file(self, key: str) -> Path:
        """Return the file of a task."""
        return self._keyed(Folder.TASKS, key)

    def failure_file(self, key: str) -> Path:
        """Return the file of the last failed attempt at a task."""
        return self._keyed(Folder.FAILURES, key)

    def lease_file(self, key: str) -> Path:
        """Return the lock file of the lease on a key."""
        _check_key(key)
        return self.base / Folder.LEASES / f"{key}.lock"

    def quarantine_path(self, name: str) -> Path:
        """Return a free path in the quarantine, for something of this name."""
        return self.base / Folder.QUARANTINE / f"{name}-{uuid.uuid4().hex[:8]}"

    def relative(self, path: Path) -> str:
        """Return a path of the store relative to the store."""
        return str(path.relative_to(self.base))

    def as_given(self, path: Path) -> Path:
        """Return a path of the store below the folder as the user named it."""
        return self.root / path.relative_to(self.base)

    # Existing entries. These methods raise `OSError`.

    def entries(self, folder: Folder) -> list[Path]:
        """Return the entries of a folder that are named by keys, sorted."""
        found = []
        for shard in self._shards(folder):
            found += [path for path in files.list_folder(shard) if _has_own_name(path, folder)]
        return found

    def steps(self, trajectory: str) -> list[int]:
        """Return the steps of the existing states of a training, in descending order."""
        names = [path.name for path in files.list_folder(self.states_folder(trajectory))]
        steps = [int(name) for name in names if re.fullmatch(r"[0-9]{1,12}", name)]
        return sorted(steps, reverse=True)

    def keys_starting_with(self, prefix: str) -> list[str]:
        """Return the keys of objects and tasks with a prefix of at least two digits, sorted."""
        found = set()
        for folder in (Folder.OBJECTS, Folder.TASKS):
            for path in files.list_folder(self.base / folder / prefix[:2]):
                if _has_own_name(path, folder) and path.name.startswith(prefix):
                    found.add(key_of(path))
        return sorted(found)

    def foreign_entries(self) -> list[Path]:
        """Return the entries whose names the store does not give."""
        own = {str(folder) for folder in Folder}
        found = [path for path in files.list_folder(self.base) if path.name not in own]
        for folder in KEYED:
            for shard in self._shards(folder):
                found += _foreign_entries_in(shard, folder)
        return found

    def _shards(self, folder: Folder) -> list[Path]:
        """Return the entries of a folder, made visible if another machine has created them just now."""
        found = files.list_folder(self.base / folder)
        for shard in found:
            files.refresh(shard, self.base)
        return found

    def _keyed(self, folder: Folder, key: str) -> Path:
        _check_key(key)
        return self.base / folder / key[:2] / (key + _suffix(folder))


def key_of(path: Path) -> str:
    """Return the key that an entry is named by."""
    return path.name.removesuffix(".json")


def _check_key(key: str) -> None:
    if not is_key(key):
        raise ValueError(f"{key!r:.80} is not a key")


def _suffix(folder: Folder) -> str:
    return ".json" if folder in _JSON else ""


def _has_own_name(path: Path, folder: Folder) -> bool:
    """Return whether an entry has a name that the store gives in this folder."""
    key = path.name.removesuffix(_suffix(folder))
    named = path.name == key + _suffix(folder)
    return is_key(key) and named and path.parent.name == key[:2]


def _foreign_entries_in(shard: Path, folder: Folder) -> list[Path]:
    inside = files.list_folder(shard)
    is_shard = len(shard.name) == 2 and shard.is_dir()
    if not inside and not is_shard:
        return [shard]
    return [path for path in inside if not _has_own_name(path, folder)]
