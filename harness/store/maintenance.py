"""Inspection of a store: its size, its damaged entries, its unreferenced entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import DamagedObject, StoreError
from harness.store.errors import explained
from harness.store.layout import FLAT, KEYED, Folder, Layout, key_of
from harness.store.object_store import ObjectStore
from harness.store.records import Records
from harness.store.training_state import TrainingStates
from harness.store.trajectory_index import TrajectoryIndex
from harness.store.writer import StoreWriter

_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Usage:
    """The number of entries of one kind, and their size in bytes."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Corruption:
    """A damaged or foreign entry.

    `path` is relative to the store; `ours` is False if the store did not write the entry.
    """

    path: str
    reason: str
    ours: bool = True


@dataclass(frozen=True)
class Unreferenced:
    """An entry that no given task or trajectory needs."""

    kind: str
    path: Path
    bytes: int


class Maintenance:
    """Inspects a store; quarantines or removes single entries. Methods raise `StoreError`."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer
        self._objects = ObjectStore(layout, writer)
        self._states = TrainingStates(layout, writer)
        self._index = TrajectoryIndex(layout, writer)
        self._records = Records(layout, writer)

    def usage(self) -> list[Usage]:
        """Return the usage of objects, by the kind of their task, and of the other folders."""
        sizes: dict[str, list[int]] = defaultdict(list)
        for path in self._entries(Folder.OBJECTS):
            sizes[self._object_kind(path)].append(files.size(path))
        for folder in KEYED[1:]:
            sizes[folder] = [files.size(path) for path in self._entries(folder)]
        for folder in FLAT:
            sizes[folder] = [files.size(path) for path in self._contents(folder)]
        return [Usage(str(kind), len(found), sum(found)) for kind, found in sizes.items()]

    def find_corruption(self) -> Iterator[Corruption]:
        """Check everything against its digest; yield damaged and foreign entries."""
        yield from self._corrupt_objects()
        yield from self._corrupt_states()
        yield from self._corrupt_indexes()
        yield from self._corrupt_tasks()
        with explained(self._layout.root, "cannot be read"):
            foreign = self._layout.foreign_entries()
        for path in foreign:
            yield Corruption(self._layout.relative(path), "it is not the store's", ours=False)

    def find_unreferenced(self, tasks: Collection[str], trajectories: Collection[str]) -> Iterator[Unreferenced]:
        """Yield the entries of tasks and trajectories that are not given, and the whole quarantine.

        `tasks` and `trajectories` are keys.
        """
        for folder in KEYED:
            needed = [tasks]
            if folder == Folder.TRAJECTORY_INDEX:
                needed = [trajectories]
            elif folder == Folder.TRAINING_STATES:
                needed = [trajectories, tasks]  # of trainings, and of derivations
            for path in self._entries(folder):
                if not any(key_of(path) in keys for keys in needed):
                    is_object = folder == Folder.OBJECTS
                    kind = self._object_kind(path) if is_object else str(folder)
                    yield Unreferenced(kind, path, files.size(path))
        for path in self._contents(Folder.QUARANTINE):
            yield Unreferenced(str(Folder.QUARANTINE), path, files.size(path))

    def quarantine(self, corruption: Corruption) -> Path:
        """Move a damaged entry to the quarantine; return its new path there."""
        _, _, *names = corruption.path.split("/")
        return self._writer.quarantine(self._layout.base / corruption.path, "-step-".join(names))

    def remove(self, entry: Unreferenced) -> None:
        """Remove an entry, if it still exists."""
        with explained(self._layout.root, "cannot be written"):
            self._writer.remove(entry.path)

    def _corrupt_objects(self) -> Iterator[Corruption]:
        for path in self._entries(Folder.OBJECTS):
            reason = self._objects.damage_reason(path.name)
            if reason:
                yield Corruption(self._layout.relative(path), reason)

    def _corrupt_states(self) -> Iterator[Corruption]:
        for path in self._entries(Folder.TRAINING_STATES):
            for step in self._states.steps(path.name):
                try:
                    self._states.verify(path.name, step)
                except DamagedObject as error:
                    yield Corruption(self._layout.relative(path / str(step)), error.reason)

    def _corrupt_indexes(self) -> Iterator[Corruption]:
        for path in self._entries(Folder.TRAJECTORY_INDEX):
            count = self._index.read(path.name).damaged_lines
            if count:
                reason = f"{count} lines do not match their digests; they are passed over"
                yield Corruption(self._layout.relative(path), reason)

    def _corrupt_tasks(self) -> Iterator[Corruption]:
        for path in self._entries(Folder.TASKS):
            try:
                self._records.read_task(key_of(path))
            except StoreError:
                reason = "it does not match its digest; a run that needs it writes it anew"
                yield Corruption(self._layout.relative(path), reason)

    def _object_kind(self, path: Path) -> str:
        """Return the kind of task that made an object, or `unreadable`."""
        try:
            kind = self._objects.meta(path.name).get("kind")
        except DamagedObject:
            return _UNREADABLE
        if isinstance(kind, str) and kind.isidentifier():
            return kind
        return _UNREADABLE

    def _entries(self, folder: Folder) -> list[Path]:
        with explained(self._layout.root, "cannot be read"):
            return self._layout.entries(folder)

    def _contents(self, folder: Folder) -> list[Path]:
        with explained(self._layout.root, "cannot be read"):
            return files.list_folder(self._layout.folder(folder))
