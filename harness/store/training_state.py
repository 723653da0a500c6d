"""Training states, from which an interrupted training or derivation continues.

Those of a training are named by the key of its trajectory, those of a derivation by the key of its task. For a derivation, a
"step" is an epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DamagedObject, StoreError
from harness.store import objects, packing
from harness.store.errors import explained
from harness.store.layout import Folder, Layout, is_key, key_of
from harness.store.packing import EntryName, PackedEntry
from harness.store.writer import StoreWriter

if TYPE_CHECKING:
    from harness.store.objects import Parts, Tensors

_READ = "cannot be read"


class TrainingStates:
    """The training states of a store; see `Store` for what each method raises."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer

    def save(self, trajectory: str, step: int, meta: Mapping[str, Any], parts: Parts) -> None:
        """Write the state of a training at a step durably, then remove those of earlier steps.

        `meta["task"]` is the key of the training's final object. Once that object is stored,
        `Store.prepare` removes the state.
        """
        folder = self._layout.state_folder(trajectory, step)
        with explained(self._layout.root, "cannot take the state of a training"):
            self._make_shard(folder)
            self._writer.write_object(folder, trajectory, {**meta, "step": step}, parts)
        self.drop(trajectory, step - 1)

    def pack(self, trajectory: str, step: int) -> PackedEntry:
        """Return a state as bytes, checked."""
        with explained(self._layout.root, _READ):
            return packing.pack(self._layout.state_folder(trajectory, step), EntryName(trajectory, step))

    def accept(self, entry: PackedEntry) -> None:
        """Write a state that another store has packed, then remove those of earlier steps."""
        trajectory, step = entry.name.key, entry.name.step
        assert step is not None
        folder = self._layout.state_folder(trajectory, step)
        with explained(self._layout.root, "cannot take the state of a training"):
            self._make_shard(folder)
            self._writer.write_packed(folder, entry)
        self.drop(trajectory, step - 1)

    def _make_shard(self, folder: Path) -> None:
        self._writer.make_folders()
        files.make_folder(folder.parent.parent)

    def steps(self, trajectory: str) -> list[int]:
        """Return the steps of the stored states of a training, in descending order."""
        with explained(self._layout.root, _READ):
            files.refresh(self._layout.states_folder(trajectory), self._layout.base)
            return self._layout.steps(trajectory)

    def load(self, trajectory: str, step: int) -> tuple[dict[str, Any], dict[str, Tensors]]:
        """Return the metadata and the parts of a stored state. Raise `DamagedObject` if they do not match their digests."""
        folder = self._layout.state_folder(trajectory, step)
        meta = self.meta(trajectory, step)
        with explained(self._layout.root, _READ):
            parts = {}
            for part in meta["files"]:
                parts[part] = objects.read_part(folder, trajectory, meta, part)
        return meta, parts

    def meta(self, trajectory: str, step: int) -> dict[str, Any]:
        """Return the metadata of a stored state. Raise `DamagedObject` if it does not match its digest."""
        with explained(self._layout.root, _READ):
            meta = objects.read_meta(self._layout.state_folder(trajectory, step), trajectory)
        if meta.get("step") != step:
            raise DamagedObject(trajectory, f"the state at step {step} is another step's")
        return meta

    def verify(self, trajectory: str, step: int) -> None:
        """Check a whole state against its digests. Raise `DamagedObject`."""
        self.meta(trajectory, step)
        with explained(self._layout.root, _READ):
            objects.verify(self._layout.state_folder(trajectory, step), trajectory)

    def quarantine(self, trajectory: str, step: int) -> Path:
        """Move a damaged state to the quarantine; return its new path. Nothing is deleted."""
        folder = self._layout.state_folder(trajectory, step)
        return self._writer.quarantine(folder, f"{trajectory}-step-{step}")

    def drop(self, trajectory: str, upto: int) -> None:
        """Remove the states of a training up to and including a step."""
        with explained(self._layout.root, "cannot be written"):
            for step in self._layout.steps(trajectory):
                if step <= upto:
                    self._writer.remove(self._layout.state_folder(trajectory, step))
            files.remove_empty(self._layout.states_folder(trajectory))

    def drop_finished(self, is_stored: Callable[[str], bool]) -> None:
        """Remove the states of trainings whose final object `is_stored`: they were killed before."""
        for folder in self._layout.entries(Folder.TRAINING_STATES):
            self.drop_finished_of(key_of(folder), is_stored)

    def drop_finished_of(self, trajectory: str, is_stored: Callable[[str], bool]) -> None:
        """Remove the states of one training whose final object `is_stored`, and those of earlier steps."""
        for step in self._layout.steps(trajectory):
            # A state that this user may not read is kept.
            with contextlib.suppress(DamagedObject, StoreError):
                task = self.meta(trajectory, step).get("task")
                if is_key(task) and is_stored(task):
                    self.drop(trajectory, step)
        files.remove_empty(self._layout.states_folder(trajectory))
