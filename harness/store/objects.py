"""An object in a folder: `meta.json` and one safetensors file per part, each with its digest. Knows not where folders lie.

What is read is a stranger's until its digest has matched: sizes are bounded, names are checked, nothing in it is code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DamagedObject
from harness.store import disk
from harness.task import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

META = "meta.json"
MAX_META = 32 * 2**20

_PART = re.compile(r"[a-z0-9-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_ROT = {errno.EIO, errno.EBADMSG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, getattr(errno, "EUCLEAN", errno.EIO)}
"""What the operating system says of spoiled files; anything else (no permission, no memory) is not the file's fault."""


def is_rot(error: OSError) -> bool:
    """Say whether an error of reading is the file's own fault."""
    return error.errno in _ROT


def part_file(part: str) -> str:
    """Return the name of a part's file; raise `ValueError` for what cannot be a part's name."""
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} is not the name of a part")
    return f"{part}.safetensors"


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write(folder: Path, key: str, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Fill an empty folder, and sync it."""
    import safetensors.torch

    files: dict[str, dict[str, Any]] = {}
    for part, tensors in parts.items():
        data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        disk.write_file(folder / part_file(part), data)
        files[part] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {**meta, "key": key, "files": files}
    disk.write_file(folder / META, json.dumps({**body, "sha256": digest(body)}, indent=1).encode())
    disk.sync_folder(folder)


def is_whole(folder: Path) -> bool:
    """Say whether all is there, as far as sizes tell. Raise `OSError` where that cannot be found out."""
    try:
        files = _files(_parse(disk.read(folder / META, MAX_META)))
        return all(disk.size(folder / part_file(part)) == file["bytes"] for part, file in files.items())
    except (*MALFORMED, FileNotFoundError):
        return False
    except OSError as error:
        if is_rot(error):
            return False
        raise


def read_meta(folder: Path, key: str) -> dict[str, Any]:
    """Return the meta-data; raise `DamagedObject` unless it matches its digest and belongs to the key."""
    raw = _read(folder, META, key, MAX_META)
    try:
        meta = _parse(raw)
        good = meta.pop("sha256") == digest(meta) and meta["key"] == key
        _files(meta)
    except MALFORMED as error:
        raise DamagedObject(key, f"{META} is unreadable ({type(error).__name__})") from None
    if not good:
        raise DamagedObject(key, f"{META} does not match its digest")
    return meta


def read_part(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """Return a part's tensors; raise `DamagedObject`."""
    import safetensors.torch

    data = read_bytes(folder, key, meta, part)
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # a good digest of something that is no safetensors file: the reader may raise what it likes
        raise DamagedObject(key, f"{part_file(part)} is not safetensors ({type(error).__name__})") from None


def read_bytes(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> bytes:
    """Return a part's bytes; raise `DamagedObject` unless they match their digest."""
    if part not in meta["files"]:
        raise DamagedObject(key, f"it has no part '{part}'")
    wanted = meta["files"][part]
    data = _read(folder, part_file(part), key, wanted["bytes"])
    if len(data) != wanted["bytes"] or hashlib.sha256(data).hexdigest() != wanted["sha256"]:
        raise DamagedObject(key, f"{part_file(part)} does not match its digest")
    return data


def verify(folder: Path, key: str) -> None:
    """Read everything against its digest; raise `DamagedObject`."""
    meta = read_meta(folder, key)
    for part in meta["files"]:
        read_bytes(folder, key, meta, part)


def _read(folder: Path, name: str, key: str, at_most: int) -> bytes:
    try:
        return disk.read(folder / name, at_most)
    except FileNotFoundError:
        raise DamagedObject(key, f"{name} is not there") from None
    except OSError as error:
        if not is_rot(error):
            raise
        reason = "does not match its digest" if error.errno == errno.EBADMSG else f"is unreadable ({error.strerror})"
        raise DamagedObject(key, f"{name} {reason}") from None


def _parse(raw: bytes) -> dict[str, Any]:
    meta = json.loads(raw)
    if not isinstance(meta, dict):
        raise TypeError
    return meta


def _files(meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what meta-data says of its parts; raise `ValueError` (or its like) where that cannot be."""
    files: dict[str, dict[str, Any]] = meta["files"]
    for part, file in files.items():
        part_file(part)
        if type(file["bytes"]) is not int or file["bytes"] < 0 or not _DIGEST.fullmatch(file["sha256"]):
            raise ValueError
    return files
