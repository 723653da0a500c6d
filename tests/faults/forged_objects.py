"""Objects of a store that are written by hand, with valid digests whatever they contain."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from harness.api.task import canonical_json
from harness.store import Store


def forge(store: Store, key: str, meta: dict[str, Any] | bytes, files: dict[str, bytes] | None = None) -> None:
    """Write an object: its files, and its metadata as bytes or as fields, to which the valid digest is added."""
    folder = store.path(key).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    if isinstance(meta, dict):
        fields = {"key": key, "files": {}, **meta}
        digest = hashlib.sha256(canonical_json(fields).encode()).hexdigest()
        meta = json.dumps({**fields, "sha256": digest}).encode()
    (folder / "meta.json").write_bytes(meta)


def described(data: bytes) -> dict[str, Any]:
    """Return the description of a file in an object's metadata."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
