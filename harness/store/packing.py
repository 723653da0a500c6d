"""Objects and training states as bytes, on their way from one store to another. Digests are checked on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import DamagedObject
from harness.store import objects


@dataclass(frozen=True)
class EntryName:
    """Names an object of a store by its key, or the state of a training at a step; then the key is that of the trajectory."""

    key: str
    step: int | None = None


@dataclass(frozen=True)
class PackedEntry:
    """An object or a training state: the contents of its files by their names."""

    name: EntryName
    files: Mapping[str, bytes]


def pack(folder: Path, name: EntryName) -> PackedEntry:
    """Return the files in the folder of an object or a state. Raise `DamagedObject` unless they match their digests."""
    meta = objects.read_meta(folder, name.key)
    contents = {objects.META: files.read(folder / objects.META, objects.MAX_META)}
    for part in meta["files"]:
        contents[objects.part_file(part)] = objects.read_part_bytes(folder, name.key, meta, part)
    return PackedEntry(name, contents)


def unpack(folder: Path, entry: PackedEntry) -> None:
    """Write the files into an empty folder, durably. Raise `DamagedObject` unless they match their digests."""
    key = entry.name.key
    for name, data in entry.files.items():
        if name != objects.META and not objects.is_part_file(name):
            raise DamagedObject(key, f"{name!r:.80} is not the name of a file of an object")
        files.write_file(folder / name, data)
    files.sync(folder)
    objects.verify(folder, key)
    parts = objects.read_meta(folder, key)["files"]
    if len(entry.files) != len(parts) + 1:
        raise DamagedObject(key, "it has files that its metadata does not name")
