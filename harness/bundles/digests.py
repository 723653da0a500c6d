"""`digests.json`: size and sha256 of every file of a bundle. It is written last, so a bundle without it is not complete."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.bundles.layout import DIGESTS, FORMAT, check_format, is_bundle_file, json_text, read_json
from harness.errors import UserError
from harness.files import write_atomically

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileDigest:
    """The size in bytes and the sha256 of a file."""

    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the digest as `digests.json` has it."""
        return {"bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Digests:
    """The content of `digests.json`: the digests by file, and the version of basin-harness that wrote the bundle."""

    files: Mapping[str, FileDigest]
    version: str = ""


def digest_of(path: Path) -> FileDigest:
    """Return the digest of a file, which is read in parts. Raise `OSError`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(file.tell(), sha256)


def digest_of_bytes(data: bytes) -> FileDigest:
    """Return the digest of bytes."""
    return FileDigest(len(data), hashlib.sha256(data).hexdigest())


def write_digests(folder: Path, digests: Mapping[str, FileDigest]) -> None:
    """Write `digests.json`, which completes a bundle."""
    listed = {name: digests[name].to_json() for name in sorted(digests)}
    facts = {"format": FORMAT, "basin-harness": version("basin-harness"), "files": listed}
    write_atomically(folder / DIGESTS, json_text(facts))


def read_digests(folder: Path) -> Digests:
    """Return the content of `digests.json`. Raise `UserError` for a folder that is no complete bundle of a known format."""
    path = folder / DIGESTS
    if not path.is_file() and (folder / "run.json").is_file():
        raise UserError(f"{folder}: is the folder of a run; `harness publish {folder} --to FOLDER` makes a bundle of it")
    if not path.is_file():
        raise UserError(
            f"{folder}: no {DIGESTS}, so it is no bundle, or publishing was cut short; `harness publish` completes it"
        )
    facts = read_json(path)
    check_format(path, facts)
    listed = facts.get("files")
    if not isinstance(listed, dict):
        raise UserError(f"{path}: lists no files; was it changed?")
    found = {}
    for name, entry in listed.items():
        if not is_bundle_file(name):
            raise UserError(f"{path}: lists {name!r:.100}, which is no file of a bundle")
        found[name] = _digest(path, name, entry)
    return Digests(found, str(facts.get("basin-harness", "")))


def _digest(path: Path, name: str, entry: Any) -> FileDigest:
    size = entry.get("bytes") if isinstance(entry, dict) else None
    sha256 = entry.get("sha256") if isinstance(entry, dict) else None
    if type(size) is not int or size < 0 or not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
        raise UserError(f'{path}: {name}: {entry!r:.60} is no digest; {{"bytes": 123, "sha256": "…"}} is expected')
    return FileDigest(size, sha256)
