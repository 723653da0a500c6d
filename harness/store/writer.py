"""Atomic changes of a store: readers, and a crash, see each one whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DamagedObject
from harness.store import objects, packing
from harness.store.errors import explained
from harness.store.layout import Folder, Layout
from harness.store.packing import PackedEntry
from harness.store.staging import StagingArea

if TYPE_CHECKING:
    from harness.store.objects import Parts


class StoreWriter:
    """Writes into the staging area, then renames. Methods raise `OSError`."""

    def __init__(self, layout: Layout, staging: StagingArea) -> None:
        self._layout = layout
        self._staging = staging
        self._has_folders = False

    def make_folders(self) -> None:
        """Create the store's folders, once: a store that disappears later is not created again."""
        if self._has_folders:
            return
        self._layout.base.mkdir(parents=True, exist_ok=True)
        for folder in Folder:
            files.make_folder(self._layout.folder(folder))
        self._has_folders = True

    def probe(self) -> None:
        """Check that the store can be written: write a file of 4096 bytes and remove it."""
        path = self._new_path()
        files.write_file(path, bytes(4096))
        files.remove(path)

    def write_object(self, target: Path, key: str, meta: Mapping[str, Any], parts: Parts) -> None:
        """Write an object's folder durably.

        If another writer was faster, its object is kept if it is intact, and quarantined if not.
        """
        staged = self._new_path()
        try:
            files.make_folder(staged, durable=False)
            objects.write(staged, key, meta, parts)
            self._move_into_place(staged, target, key)
        finally:
            files.remove(staged)

    def write_packed(self, target: Path, entry: PackedEntry) -> None:
        """Write the folder of an object or a state that another store has packed, durably.

        Raise `DamagedObject` unless its files match their digests. An intact entry that exists is kept.
        """
        staged = self._new_path()
        try:
            files.make_folder(staged, durable=False)
            packing.unpack(staged, entry)
            self._move_into_place(staged, target, entry.name.key)
        finally:
            files.remove(staged)

    def write_temporary(self, data: bytes) -> Path:
        """Write a file that is removed with this process's staging folder; return its path."""
        path = self._new_path()
        files.write_file(path, data)
        return path

    def write_file(self, path: Path, data: bytes, *, durable: bool = False) -> None:
        """Write or replace a file; a folder of the same name is quarantined."""
        staged = self._new_path()
        files.make_folder(path.parent, durable=durable)
        if path.is_dir():
            self.quarantine(path, path.stem)
        files.write_and_replace(path, data, staged, sync_data=durable, sync_name=durable)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, if it exists; readers see all of it or nothing."""
        staged = self._new_path()
        with contextlib.suppress(FileNotFoundError):
            files.move(path, staged)
            files.remove(staged)

    def quarantine(self, path: Path, name: str) -> Path:
        """Move a damaged entry to the quarantine, if it exists; return its new path.

        Raise `StoreError` if it cannot be moved.
        """
        target = self._layout.quarantine_path(name)
        with explained(self._layout.root, "cannot set a damaged object aside"):
            self.make_folders()
            with contextlib.suppress(FileNotFoundError):
                files.move(path, target)
        return self._layout.as_given(target)

    def _new_path(self) -> Path:
        self.make_folders()
        return self._staging.new_path()

    def _move_into_place(self, staged: Path, target: Path, key: str) -> None:
        while not _try_move(staged, target):
            if files.exists(target) and self._is_intact(target, key):
                return

    def _is_intact(self, target: Path, key: str) -> bool:
        """Return whether an object is intact; quarantine it if not."""
        try:
            objects.verify(target, key)
        except DamagedObject:
            self.quarantine(target, key)
            return False
        return True


def _try_move(staged: Path, target: Path) -> bool:
    """Rename a folder; return False if the target exists, or its parent was removed."""
    files.make_folder(target.parent)
    try:
        files.move(staged, target)
    except OSError:
        swept = not files.exists(target.parent)  # another process removed the empty folder
        if files.exists(target) or swept:
            return False
        raise
    return True
