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
    for name, data in entry.files.items():
        files.write_file(folder / _checked(name, entry.name.key), data)
    files.sync(folder)
    objects.verify(folder, entry.name.key)


def _checked(name: str, key: str) -> str:
    """Return the name of a file, if an object can have such a file. Raise `DamagedObject`."""
    if name == objects.META:
        return name
    try:
        return objects.part_file(name.removesuffix(objects.PART_SUFFIX))
    except ValueError as error:
        raise DamagedObject(key, str(error)) from None
