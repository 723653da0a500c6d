"""The folder that a bundle is written to: it is new, empty, or holds a part of the same bundle."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness import files
from harness.bundles.layout import CARD, CONFIG, DIGESTS, EXAMPLES, MEMBERS, REQUIRED, WEIGHTS
from harness.errors import UserError
from harness.store.layout import is_key
from harness.text import byte_count

_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{16}\.part")
_MARGIN = 64 * 2**20
"""Bytes to leave free beside the weights: rows, board and page."""


def prepare_target(folder: Path, keys: set[str]) -> None:
    """Create the folder, and remove `digests.json` and half-written files of a command that was cut short.

    `keys` are those of the members to publish. Raise `UserError` if the folder holds anything but a part of this bundle.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_own(folder, keys)
        files.remove(folder / DIGESTS)  # from here on the bundle is incomplete
        for path in [*folder.glob(".*.part"), *folder.glob(f"{MEMBERS}/*/.*.part")]:
            if _HALF_WRITTEN.fullmatch(path.name):
                files.remove(path)
    except OSError as error:
        raise UserError(f"--to {folder}: cannot be written: {error.strerror or error}; name another folder") from None


def _require_own(folder: Path, keys: set[str]) -> None:
    for path in files.list_folder(folder):
        if path.name == MEMBERS and path.is_dir():
            _require_own_members(path, keys)
        elif path.name not in (*REQUIRED, EXAMPLES, DIGESTS) and not _is_hidden(path):
            raise UserError(f"--to {folder}: holds {path.name!r:.100}, which is no file of a bundle; name an empty folder")


def _require_own_members(members: Path, keys: set[str]) -> None:
    for path in files.list_folder(members):
        if not is_key(path.name) or path.name not in keys:
            what = "a member of another bundle" if is_key(path.name) else "no folder of a member"
            raise UserError(f"--to {members.parent}: {MEMBERS} holds {path.name[:12]!r}, {what}; name an empty folder")
        for file in files.list_folder(path):
            if file.name not in (WEIGHTS, CONFIG, CARD) and not _is_hidden(file):
                raise UserError(f"--to {members.parent}: holds {file}, which is no file of a bundle; name an empty folder")


def _is_hidden(path: Path) -> bool:
    """Return whether a file belongs to git or to a file manager, or is half written."""
    return path.name.startswith(".")


def require_space(folder: Path, wanted: Iterable[tuple[str, int]]) -> None:
    """Raise `UserError` if the disk is too small for the files `wanted`, (name, bytes), without those that are there."""
    needed = _MARGIN
    for name, size in wanted:
        if files.size(folder / name) != size:
            needed += size
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"--to {folder}: {byte_count(needed)} are needed, and {byte_count(free)} are free there; free some space, name a "
            "folder on another disk, or publish with --no-members"
        )
