"""The facade of a store: everything that runs, workers and commands use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.errors import explained
from harness.store.keys import resolve_key
from harness.store.layout import Layout
from harness.store.leases import Leases
from harness.store.maintenance import Maintenance
from harness.store.object_store import ObjectStore
from harness.store.packing import EntryName, PackedEntry
from harness.store.records import Records
from harness.store.run_registry import RunRegistry, Say
from harness.store.staging import StagingArea
from harness.store.training_state import TrainingStates
from harness.store.trajectory_index import TrajectoryIndex
from harness.store.writer import StoreWriter

if TYPE_CHECKING:
    from harness.store.objects import Arrays, Parts, Tensors


class Store:
    """A folder of content-addressed objects, shared by any number of runs.

    Creating a `Store` writes nothing, so a read-only folder can be read. The first write, or
    `prepare`, creates the folders. Every method raises `StoreError` if the operating system raises
    an error, and `ValueError` for a malformed key. `training_states` are the states within trainings;
    `maintenance` verifies, measures and cleans the store.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._staging = StagingArea(self._layout)
        self._writer = StoreWriter(self._layout, self._staging)
        self._objects = ObjectStore(self._layout, self._writer)
        self._index = TrajectoryIndex(self._layout, self._writer)
        self._records = Records(self._layout, self._writer)
        self._leases = Leases(self._layout, self._writer, self._staging.locks)
        self._runs = RunRegistry(self._layout, self._writer, self._staging.locks)
        self.root = self._layout.root
        self.base = self._layout.base
        self.training_states = TrainingStates(self._layout, self._writer)
        self.maintenance = Maintenance(self._layout, self._writer)

    def prepare(self) -> None:
        """Check that the store can be written, and clean up after dead processes."""
        with explained(self.root, "cannot be used"):
            self._writer.probe()
            self._staging.sweep()
            self._leases.sweep()
            self.training_states.drop_finished(self.has)

    def close(self) -> None:
        """Remove this process's staging folder, as garbage collection does."""
        self._staging.close()

    # Objects

    def has(self, key: str) -> bool:
        """Return whether an object exists and its files have the right sizes."""
        return self._objects.has(key)

    def present(self, key: str) -> bool:
        """Return whether an object exists, damaged or not."""
        return self._objects.present(key)

    def refresh(self, key: str) -> None:
        """Make an object visible that another machine has stored since this one looked for it in vain."""
        with explained(self.root, "cannot be read"):
            self._objects.refresh(key)

    def meta(self, key: str) -> dict[str, Any]:
        """Return an object's metadata. Raise `DamagedObject` if it does not match its digest."""
        return self._objects.meta(key)

    def tensors(self, key: str, part: str = "weights") -> Tensors:
        """Return the tensors of one part. Raise `DamagedObject` if a byte of it has changed."""
        return self._objects.tensors(key, part)

    def arrays(self, key: str, part: str) -> Arrays:
        """Return the tensors of one part as NumPy arrays, without importing torch. Raise `DamagedObject`."""
        return self._objects.arrays(key, part)

    def path(self, key: str, part: str = "weights") -> Path:
        """Return the path of a part's safetensors file. Raise `ValueError` for a malformed name."""
        return self._objects.part_path(key, part)

    def put(self, key: str, meta: Mapping[str, Any], parts: Parts | None = None) -> None:
        """Write an object atomically and durably.

        An intact object of this key is kept; a damaged one is quarantined.
        """
        self._objects.put(key, meta, parts or {})

    def verify(self, key: str) -> None:
        """Check a whole object against its digests. Raise `DamagedObject`."""
        self._objects.verify(key)

    def damage_reason(self, key: str) -> str:
        """Check a whole object; return what is wrong, or an empty string."""
        return self._objects.damage_reason(key)

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
        """Return the keys of a trajectory's stored checkpoints by epoch; ignore damaged lines."""
        keys = self._index.read(trajectory).keys
        return {epoch: key for epoch, key in keys.items() if self.has(key)}

    # States within a training

    def drop_finished_states(self, trajectory: str) -> None:
        """Remove the states of a training whose final object is stored."""
        self.training_states.drop_finished_of(trajectory, self.has)

    # Copies for other stores

    def pack(self, name: EntryName) -> PackedEntry:
        """Return an object or a training state as bytes. Raise `DamagedObject`."""
        if name.step is None:
            return self._objects.pack(name.key)
        return self.training_states.pack(name.key, name.step)

    def accept(self, entry: PackedEntry) -> None:
        """Write what another store has packed. Raise `DamagedObject` unless all files match their digests.

        An intact object is kept. A training state replaces those of earlier steps.
        """
        if entry.name.step is None:
            self._objects.accept(entry)
        else:
            self.training_states.accept(entry)

    def write_temporary(self, data: bytes) -> Path:
        """Write a file that is removed when the store is closed; return its absolute path."""
        with explained(self.root, "cannot be written"):
            return self._writer.write_temporary(data)

    # Tasks and failures

    def write_task(self, key: str, task: Mapping[str, Any]) -> None:
        """Store a task, so that a worker can make its object."""
        self._records.write_task(key, task)

    def read_task(self, key: str) -> dict[str, Any]:
        """Return a stored task. Raise `StoreError` if it is missing or damaged."""
        return self._records.read_task(key)

    def record_failure(self, key: str, facts: Mapping[str, Any]) -> Path:
        """Store the last failed attempt at a task; return the file's path."""
        return self._records.record_failure(key, facts)

    def failure(self, key: str) -> Path | None:
        """Return the file of the last failed attempt at a task, if there is one."""
        return self._records.failure(key)

    # Other processes

    def lease(self, key: str) -> AbstractContextManager[bool]:
        """Hold the lease on a task within the block; yield False at once if another run holds it."""
        return self._leases.hold(key)

    def registered(self, place: str, say: Say) -> AbstractContextManager[None]:
        """Register a run that writes its results to `place` within the block.

        Raise `StoreError` if another run uses the store and locks do not tell the two apart. `say` gets a line if that takes
        some seconds.
        """
        return self._runs.registered(place, say)

    @property
    def lock_problem(self) -> str:
        """Why locks do not work on this machine, or "". Then one run at a time may use the store."""
        with explained(self.root, "cannot be used"):
            self._writer.make_folders()
            return self._staging.locks.problem

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[int]:
        """Keep others from beginning to write within the block; yield how many have begun."""
        unlocked = self._runs.has_unlocked()
        with self._staging.exclusive() as others:
            yield others + unlocked

    def resolve(self, prefix: str) -> str:
        """Return the only key with a prefix, of an object or a task. Raise `StoreError`."""
        return resolve_key(self._layout, prefix)
