"""The facade of a store: all that runs, workers and commands ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.errors import explained
from harness.store.keys import resolve_key
from harness.store.layout import Layout
from harness.store.leases import Leases
from harness.store.maintenance import Maintenance
from harness.store.object_store import ObjectStore
from harness.store.records import Records
from harness.store.staging import StagingArea
from harness.store.training_state import TrainingStates
from harness.store.trajectory_index import TrajectoryIndex
from harness.store.writer import StoreWriter

if TYPE_CHECKING:
    from harness.store.objects import Parts, Tensors


class Store:
    """A folder of content-addressed objects, shared by any number of runs.

    Creating a `Store` touches nothing: one that can only be read can be read. Folders are made by
    the first write, or by `prepare`. Every method raises `StoreError` if the operating system
    refuses, and `ValueError` for a key that is not one.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._staging = StagingArea(self._layout)
        self._writer = StoreWriter(self._layout, self._staging)
        self._objects = ObjectStore(self._layout, self._writer)
        self._states = TrainingStates(self._layout, self._writer)
        self._index = TrajectoryIndex(self._layout, self._writer)
        self._records = Records(self._layout, self._writer)
        self._leases = Leases(self._layout, self._writer)
        self.root = self._layout.root
        self.base = self._layout.base
        self.maintenance = Maintenance(self._layout, self._writer)

    def prepare(self) -> None:
        """Check that the store can be written, and remove what dead processes left."""
        with explained(self.root, "cannot be used"):
            self._writer.probe()
            self._staging.sweep()
            self._leases.sweep()
            self._states.drop_finished(self.has)

    def close(self) -> None:
        """Remove this process's staging folder, as garbage collection does."""
        self._staging.close()

    # Objects

    def has(self, key: str) -> bool:
        """Return whether an object is there, whole as far as its files' sizes tell."""
        return self._objects.has(key)

    def present(self, key: str) -> bool:
        """Return whether anything lies under a key, damaged or not."""
        return self._objects.present(key)

    def meta(self, key: str) -> dict[str, Any]:
        """Return an object's metadata. Raise `DamagedObject` if it does not match its digest."""
        return self._objects.meta(key)

    def tensors(self, key: str, part: str = "weights") -> Tensors:
        """Return the tensors of one part. Raise `DamagedObject` if a byte of it has changed."""
        return self._objects.tensors(key, part)

    def path(self, key: str, part: str = "weights") -> Path:
        """Return where a part's safetensors file lies. Raise `ValueError` for no part's name."""
        return self._objects.part_path(key, part)

    def put(self, key: str, meta: Mapping[str, Any], parts: Parts | None = None) -> None:
        """Write an object: afterwards all of it is on the disk, or nothing.

        An object that is there and whole stays; a damaged one is quarantined.
        """
        self._objects.put(key, meta, parts or {})

    def verify(self, key: str) -> None:
        """Read all of an object against its digests. Raise `DamagedObject`."""
        self._objects.verify(key)

    def damage(self, key: str) -> str:
        """Return what is wrong with an object, all of it read; an empty text if it is good."""
        return self._objects.damage(key)

    def quarantine(self, key: str) -> Path:
        """Move a damaged object to the quarantine; return its new path. Nothing is deleted."""
        return self._objects.quarantine(key)

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        return self._objects.keys()

    # Trajectories

    def note_epoch(self, trajectory: str, epoch: int, key: str) -> None:
        """Record under which key a checkpoint is stored; ignored until the object exists."""
        self._index.add(trajectory, epoch, key)

    def epochs(self, trajectory: str) -> dict[int, str]:
        """Return a trajectory's stored checkpoints, epoch → key; damaged lines are ignored."""
        keys = self._index.read(trajectory).keys
        return {epoch: key for epoch, key in keys.items() if self.has(key)}

    # States within a training

    def save_training_state(self, trajectory: str, step: int, meta: Mapping[str, Any], parts: Parts) -> None:
        """Keep the state of a training at a step; those of earlier steps are removed.

        `meta["task"]` is the key of the object that the training ends in: once that is stored,
        `prepare` removes the state.
        """
        self._states.save(trajectory, step, meta, parts)

    def saved_steps(self, trajectory: str) -> list[int]:
        """Return the steps at which states of a training are kept, the last first."""
        return self._states.steps(trajectory)

    def load_training_state(self, trajectory: str, step: int) -> tuple[dict[str, Any], dict[str, Tensors]]:
        """Return the metadata and the parts of a kept state. Raise `DamagedObject`."""
        return self._states.load(trajectory, step)

    def quarantine_training_state(self, trajectory: str, step: int) -> Path:
        """Move a damaged state to the quarantine; return its new path. Nothing is deleted."""
        return self._states.quarantine(trajectory, step)

    def drop_training_states(self, trajectory: str, upto: int) -> None:
        """Remove the kept states of a training up to a step."""
        self._states.drop(trajectory, upto)

    # Tasks and failures

    def write_task(self, key: str, task: Mapping[str, Any]) -> None:
        """Keep what a worker needs to make an object."""
        self._records.write_task(key, task)

    def read_task(self, key: str) -> dict[str, Any]:
        """Return a kept task. Raise `StoreError` if there is none, or not what was kept."""
        return self._records.read_task(key)

    def record_failure(self, key: str, facts: Mapping[str, Any]) -> Path:
        """Keep the last failed attempt at a task; return where."""
        return self._records.record_failure(key, facts)

    def failure(self, key: str) -> Path | None:
        """Return where the last failed attempt at a task is kept, if there is one."""
        return self._records.failure(key)

    # Other processes

    def lease(self, key: str) -> AbstractContextManager[bool]:
        """Hold the right to work on a task; yield False at once if another run holds it."""
        return self._leases.hold(key)

    def exclusive(self) -> AbstractContextManager[int]:
        """Let no other process begin to write; yield how many have begun before."""
        return self._staging.exclusive()

    def resolve(self, prefix: str) -> str:
        """Return the one key of an object or task with this prefix. Raise `StoreError`."""
        return resolve_key(self._layout, prefix)
