"""Content-addressed objects: the object of a key is the result of the task with that key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DamagedObject
from harness.store import objects, packing
from harness.store.errors import explained
from harness.store.layout import Folder, Layout, key_of
from harness.store.packing import EntryName, PackedEntry
from harness.store.writer import StoreWriter

if TYPE_CHECKING:
    from harness.store.objects import Arrays, Parts, Tensors

_READ = "cannot be read"


class ObjectStore:
    """The objects of a store; see `Store` for what each method does and raises."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer

    def has(self, key: str) -> bool:
        """Return whether an object exists and its files have the right sizes."""
        folder = self._layout.object_folder(key)
        with explained(self._layout.root, _READ):
            return objects.is_whole(folder)

    def present(self, key: str) -> bool:
        """Return whether an object exists, damaged or not."""
        return files.exists(self._layout.object_folder(key))

    def refresh(self, key: str) -> None:
        """Make an object visible that another machine has stored just now."""
        files.refresh(self._layout.object_folder(key), self._layout.base)

    def meta(self, key: str) -> dict[str, Any]:
        """Return an object's metadata, checked."""
        folder = self._visible(key)
        with explained(self._layout.root, _READ):
            return objects.read_meta(folder, key)

    def tensors(self, key: str, part: str) -> Tensors:
        """Return the tensors of one part, checked."""
        folder = self._visible(key)
        with explained(self._layout.root, _READ):
            return objects.read_part(folder, key, objects.read_meta(folder, key), part)

    def arrays(self, key: str, part: str) -> Arrays:
        """Return the tensors of one part as NumPy arrays, checked."""
        folder = self._visible(key)
        with explained(self._layout.root, _READ):
            return objects.read_arrays(folder, key, objects.read_meta(folder, key), part)

    def verify(self, key: str) -> None:
        """Check a whole object against its digests."""
        folder = self._visible(key)
        with explained(self._layout.root, _READ):
            objects.verify(folder, key)

    def damage_reason(self, key: str) -> str:
        """Return what is wrong with an object; an empty string if nothing is."""
        try:
            self.verify(key)
        except DamagedObject as error:
            return error.reason
        return ""

    def part_path(self, key: str, part: str) -> Path:
        """Return the path of a part's file."""
        folder = self._layout.as_given(self._layout.object_folder(key))
        return folder / objects.part_file(part)

    def put(self, key: str, meta: Mapping[str, Any], parts: Parts) -> None:
        """Write an object durably, unless it exists intact."""
        folder = self._layout.object_folder(key)
        with explained(self._layout.root, f"cannot take object {key[:12]}"):
            self._writer.write_object(folder, key, meta, parts)

    def pack(self, key: str) -> PackedEntry:
        """Return an object as bytes, checked."""
        with explained(self._layout.root, _READ):
            return packing.pack(self._layout.object_folder(key), EntryName(key))

    def accept(self, entry: PackedEntry) -> None:
        """Write an object that another store has packed, unless it exists intact."""
        folder = self._layout.object_folder(entry.name.key)
        with explained(self._layout.root, f"cannot take object {entry.name.key[:12]}"):
            self._writer.write_packed(folder, entry)

    def quarantine(self, key: str) -> Path:
        """Move an object to the quarantine."""
        return self._writer.quarantine(self._layout.object_folder(key), key)

    def _visible(self, key: str) -> Path:
        """Return the folder of an object that should exist."""
        with explained(self._layout.root, _READ):
            self.refresh(key)
        return self._layout.object_folder(key)

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        with explained(self._layout.root, _READ):
            return [key_of(path) for path in self._layout.entries(Folder.OBJECTS)]
