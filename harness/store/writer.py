"""Changes of a store, each of which readers and crashes see whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DamagedObject
from harness.store import objects
from harness.store.errors import explained
from harness.store.layout import Folder, Layout
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
        """Make the store's folders, once: a store that disappears later is not made again."""
        if self._has_folders:
            return
        self._layout.base.mkdir(parents=True, exist_ok=True)
        for folder in Folder:
            files.make_folder(self._layout.folder(folder))
        self._has_folders = True

    def probe(self) -> None:
        """Write and remove a file of one page."""
        path = self._new_path()
        files.write_file(path, bytes(4096))
        files.remove(path)

    def write_object(self, target: Path, key: str, meta: Mapping[str, Any], parts: Parts) -> None:
        """Write an object's folder durably.

        If another writer was faster, its object stays if it is whole; otherwise it is quarantined.
        """
        staged = self._new_path()
        try:
            files.make_folder(staged, durable=False)
            objects.write(staged, key, meta, parts)
            self._move_into_place(staged, target, key)
        finally:
            files.remove(staged)

    def write_file(self, path: Path, data: bytes, *, durable: bool = False) -> None:
        """Write a file in place of the one that is there, if any; a folder there is quarantined."""
        staged = self._new_path()
        files.make_folder(path.parent, durable=durable)
        if path.is_dir():
            self.quarantine(path, path.stem)
        files.write_and_replace(path, data, staged, sync_data=durable, sync_name=durable)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, if it exists. It is moved first: nobody sees half of it."""
        staged = self._new_path()
        with contextlib.suppress(FileNotFoundError):
            files.move(path, staged)
            files.remove(staged)

    def quarantine(self, path: Path, name: str) -> Path:
        """Move something damaged to the quarantine, if it exists; return its new path there.

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
            if files.exists(target) and self._is_whole(target, key):
                return

    def _is_whole(self, target: Path, key: str) -> bool:
        """Return whether an object is good; quarantine it if not."""
        try:
            objects.verify(target, key)
        except DamagedObject:
            self.quarantine(target, key)
            return False
        return True


def _try_move(staged: Path, target: Path) -> bool:
    """Rename a folder; return False if something is in the way, or the parent is gone."""
    files.make_folder(target.parent)
    try:
        files.move(staged, target)
    except OSError:
        swept = not files.exists(target.parent)  # by another process, while it was empty
        if files.exists(target) or swept:
            return False
        raise
    return True
