"""A run's folder: checks of its location, and a lock so that one run at a time writes to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness.errors import UserError
from harness.results.bundle_mark import is_bundle
from harness.store.locks import lock_problem
from harness.text import escape_unprintable

FILES = ("results.csv", "leaderboard.md", "run.json", "events.jsonl", "profile.json", "report.html", "examples.npz")
"""The files in a run's folder. The rows come first: the other files depend on them."""

_EARLIER = re.compile(r"earlier-[0-9]+")
_HALF_WRITTEN = re.compile(r"\.(earlier-)?[0-9a-f]{16}\.part")
_STALE_SECONDS = 600.0  # age after which a partly written file is taken as abandoned
_LOCK, _OWNER = ".run.lock", ".run.owner"
_STORE_FOLDERS = ("objects", "trajectories", "tasks")


def check_places(out: Path, store: Path, data: Path, *, named: str = "") -> None:
    """Raise `UserError` if a run's folder, its store and its data root would overwrite each other's files. Writes nothing.

    `named` is the benchmark's name if the folder's path is derived from it, and empty if the user gave the path. Links are
    followed. Names that differ in case only count as equal, as on some file systems.
    """
    where = f"--out {out}"
    remedy = "choose another folder with --out"
    if named:
        where = f"name '{named}': its folder {out}"
        remedy = f"{remedy}, or another name"
    for root in (store, *_enclosing_stores(out)):
        inside = _path_within(out, root)
        if inside is not None:
            what = f"lies in the store {root}" if inside else f"is the store's folder {root}"
            raise UserError(escape_unprintable(f"{where} {what}; {remedy}"))
    for root in _enclosing_stores(Path(os.path.realpath(store)).parent):
        raise UserError(escape_unprintable(f"--store {store}: lies in the store {root}; choose another folder with --store"))
    if _path_within(out, data) == ():
        raise UserError(escape_unprintable(f"{where} is the data root {data}; {remedy}"))
    for option, root in (("--store", store), ("--data", data)):
        inside = _path_within(root, out)
        if inside and _is_reserved(inside[0]):
            taken = f"'{inside[0]}' in {out} is the name of a run's own file or folder"
            raise UserError(escape_unprintable(f"{option} {root}: {taken}; choose another folder with {option}"))


def _enclosing_stores(path: Path) -> Iterator[Path]:
    """Yield the folder itself and its parents, as far as they are stores."""
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        with contextlib.suppress(OSError):  # a folder without read permission
            if all((folder / name).is_dir() for name in _STORE_FOLDERS):
                yield folder


def _path_within(path: Path, root: Path) -> tuple[str, ...] | None:
    """Return the parts of a path relative to a root: () if it is the root, None if it is outside."""
    parts, root_parts = _normalized_parts(path), _normalized_parts(root)
    if parts[: len(root_parts)] != root_parts:
        return None
    return parts[len(root_parts) :]


def _normalized_parts(path: Path) -> tuple[str, ...]:
    real = unicodedata.normalize("NFC", os.path.realpath(path))
    return Path(real.casefold()).parts


def _is_reserved(name: str) -> bool:
    return name in (*FILES, _LOCK, _OWNER) or bool(_EARLIER.fullmatch(name) or _HALF_WRITTEN.fullmatch(name))


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Create a run's folder, and lock it within the block.

    Raise `UserError` if it cannot be written, or if another run holds the lock. On a file system without locks, the folder is
    not locked.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_files(folder)
    with _locked(folder):
        with _explained(folder):
            (folder / "events.jsonl").open("a").close()
            _remove_half_written(folder)
        yield


def _check_files(folder: Path) -> None:
    """Raise `UserError` for a published bundle, and if a folder or a pipe has the name of a file that a run writes."""
    if is_bundle(folder):
        message = f"--out {folder}: is a published bundle, whose files a run would overwrite; choose another folder"
        raise UserError(escape_unprintable(message))
    for name in FILES:
        path = folder / name
        if path.is_dir() or path.is_fifo() or path.is_socket():
            what = "a pipe or socket"
            if path.is_dir():
                what = "a folder"
            message = f"--out {folder}: {name} there is {what}, and a run writes a file of that name; choose another folder"
            raise UserError(escape_unprintable(message))


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {error.strerror}; choose another folder") from None


def _remove_half_written(folder: Path) -> None:
    """Remove partly written files of killed runs. Files are written under a temporary name and then renamed."""
    for rest in folder.glob(".*.part"):
        if not _HALF_WRITTEN.fullmatch(rest.name) or time.time() - rest.lstat().st_mtime < _STALE_SECONDS:
            continue
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest)
        else:
            rest.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock within the block. The operating system releases it if this process dies."""
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    if not _acquire(lock, folder):
        yield
        return
    try:
        _write_owner(folder)
        yield
    finally:
        for name in (_OWNER, _LOCK):  # unlink before the release: a process that has opened the file sees that it was removed
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        lock.release()


def _acquire(lock: filelock.BaseFileLock, folder: Path) -> bool:
    """Take the lock; return False where locks do not work. Raise `UserError` if another run holds it."""
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        if lock_problem(probe):
            return False
        lock.acquire()
    except filelock.Timeout:
        raise UserError(_refusal(folder)) from None
    except (OSError, NotImplementedError):
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def _write_owner(folder: Path) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # a full disk: the message of a refused run has no owner then
        (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")


def _refusal(folder: Path) -> str:
    holder = "another run"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        holder = f"another run (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    return escape_unprintable(
        f"{folder}: {holder} is writing there; wait until it has ended, or choose another folder with --out; of an array of "
        f"jobs all but the first are refused: give each a folder of its own, such as --out '{folder}-'$SLURM_ARRAY_TASK_ID"
    )
