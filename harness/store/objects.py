"""The format of an object: a folder with `meta.json` and one safetensors file per part, each with
its digest. Knows nothing of the store's folders.

The files may come from strangers, so sizes are bounded, names are checked, and no code is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.api.task import canonical_json
from harness.errors import DamagedObject

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Arrays = dict[str, np.ndarray]
    Tensors = dict[str, Tensor]
    Parts = Mapping[str, Mapping[str, Tensor]]

META = "meta.json"
MAX_META = 32 * 2**20
"""The largest size, in bytes, of metadata and of every other file that holds no tensors."""

MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The errors that unexpected JSON may raise."""

_PART = re.compile(r"[a-z0-9-]{1,64}")
_SUFFIX = ".safetensors"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_DAMAGE = {
    errno.EIO,
    errno.EBADMSG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
    getattr(errno, "EUCLEAN", errno.EIO),
}


@dataclass(frozen=True)
class PartFile:
    """The size and the digest of a part's file, as the metadata has them."""

    bytes: int
    sha256: str


def is_file_damage(error: OSError) -> bool:
    """Return whether a damaged file causes an error; a missing permission is no damage."""
    return error.errno in _FILE_DAMAGE


def part_file(part: str) -> str:
    """Return the name of a part's file. Raise `ValueError` if no part can have this name."""
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} is not the name of a part")
    return part + _SUFFIX


def is_part_file(name: str) -> bool:
    """Return whether a file's name is one that `part_file` returns."""
    return name.endswith(_SUFFIX) and _PART.fullmatch(name.removesuffix(_SUFFIX)) is not None


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write(folder: Path, key: str, meta: Mapping[str, Any], parts: Parts) -> None:
    """Write an object into an empty folder, durably. Raise `OSError`."""
    import safetensors.torch

    described: dict[str, dict[str, Any]] = {}
    for part, tensors in parts.items():
        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
        data = safetensors.torch.save(plain)
        files.write_file(folder / part_file(part), data)
        described[part] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {**meta, "key": key, "files": described}
    signed = {**body, "sha256": digest(body)}
    files.write_file(folder / META, json.dumps(signed, indent=1).encode())
    files.sync(folder)


def is_whole(folder: Path) -> bool:
    """Return whether all files exist with the right sizes. Raise `OSError` if that is unknown."""
    try:
        meta = _parse(files.read(folder / META, MAX_META))
        for part, file in _part_files(meta).items():
            if files.size(folder / part_file(part)) != file.bytes:
                return False
    except (*MALFORMED, FileNotFoundError):
        return False
    except OSError as error:
        if is_file_damage(error):
            return False
        raise
    return True


def read_meta(folder: Path, key: str) -> dict[str, Any]:
    """Return the metadata. Raise `DamagedObject` unless digest and key match."""
    raw = _read(folder, META, key, MAX_META)
    try:
        meta = _parse(raw)
        good = meta.pop("sha256") == digest(meta) and meta["key"] == key
        _part_files(meta)
    except MALFORMED as error:
        raise DamagedObject(key, f"{META} is unreadable ({type(error).__name__})") from None
    if not good:
        raise DamagedObject(key, f"{META} does not match its digest")
    return meta


def read_part(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> Tensors:
    """Return the tensors of a part, in the order of their names. Raise `DamagedObject` unless its bytes match their digest.

    safetensors returns them in another order each time, and the order of a sum changes its rounding.
    """
    import safetensors.torch

    data = read_part_bytes(folder, key, meta, part)
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    except Exception as error:  # the digest is right, but it is no safetensors file: any error may come
        reason = f"{part_file(part)} is not safetensors ({type(error).__name__})"
        raise DamagedObject(key, reason) from None


def read_arrays(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> Arrays:
    """Return the tensors of a part as NumPy arrays, without importing torch. Otherwise as `read_part`."""
    import safetensors.numpy

    data = read_part_bytes(folder, key, meta, part)
    try:
        return dict(sorted(safetensors.numpy.load(data).items()))
    except Exception as error:  # as in `read_part`
        reason = f"{part_file(part)} is not safetensors ({type(error).__name__})"
        raise DamagedObject(key, reason) from None


def verify(folder: Path, key: str) -> None:
    """Check every file against its digest. Raise `DamagedObject`."""
    meta = read_meta(folder, key)
    for part in meta["files"]:
        read_part_bytes(folder, key, meta, part)


def read_part_bytes(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> bytes:
    """Return the bytes of a part, checked against metadata that is checked already. Raise `DamagedObject`."""
    if part not in meta["files"]:
        raise DamagedObject(key, f"it has no part '{part}'")
    described = meta["files"][part]
    file = PartFile(described["bytes"], described["sha256"])
    data = _read(folder, part_file(part), key, file.bytes)
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise DamagedObject(key, f"{part_file(part)} does not match its digest")
    return data


def _read(folder: Path, name: str, key: str, at_most: int) -> bytes:
    try:
        return files.read(folder / name, at_most)
    except FileNotFoundError:
        raise DamagedObject(key, f"{name} is not there") from None
    except OSError as error:
        if not is_file_damage(error):
            raise
        if error.errno == errno.EBADMSG:
            raise DamagedObject(key, f"{name} does not match its digest") from None
        raise DamagedObject(key, f"{name} is unreadable ({error.strerror})") from None


def _parse(raw: bytes) -> dict[str, Any]:
    meta = json.loads(raw)
    if not isinstance(meta, dict):
        raise TypeError
    return meta


def _part_files(meta: Mapping[str, Any]) -> dict[str, PartFile]:
    """Return the parts' files as the metadata has them. Raise one of `MALFORMED`."""
    found = {}
    for part, file in meta["files"].items():
        part_file(part)
        size, sha256 = file["bytes"], file["sha256"]
        if type(size) is not int or size < 0 or not _DIGEST.fullmatch(sha256):
            raise ValueError
        found[part] = PartFile(size, sha256)
    return found
