"""A run's folder: where it may lie, and that one run at a time writes there. Knows nothing of what the files hold."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness.errors import UserError
from harness.text import escape_unprintable

FILES = ("results.csv", "leaderboard.md", "run.json", "events.jsonl", "profile.json", "report.html", "examples.npz")
"""What this project writes into a run's folder. Rows come first: without them the others say little."""

_EARLIER = re.compile(r"earlier-[0-9]+")
_HALF_WRITTEN = re.compile(r"\.(earlier-)?[0-9a-f]{16}\.part")
_STALE = 600.0  # seconds after which half a file is nobody's any more; writing one takes a moment
_LOCK, _OWNER = ".run.lock", ".run.owner"
_STORE_FOLDERS = ("objects", "trajectories", "tasks")


def check_places(out: Path, store: Path, data: Path, *, named: str = "") -> None:
    """Raise `UserError` if a run's folder, its store and its data root would write over each other. Writes nothing.

    `named` is the benchmark's name if the folder follows from it, and empty if the folder was chosen. Links are followed, and
    names that differ in case alone count as equal: on some file systems they are.
    """
    where = f"name '{named}': its folder {out}" if named else f"--out {out}"
    remedy = "choose another folder with --out" + (", or another name" if named else "")
    for root in (store, *_stores_around(out)):
        inside = _path_within(out, root)
        if inside is not None:
            what = f"lies in the store {root}" if inside else f"is the store's folder {root}"
            raise UserError(escape_unprintable(f"{where} {what}; {remedy}"))
    for root in _stores_around(Path(os.path.realpath(store)).parent):
        raise UserError(escape_unprintable(f"--store {store}: lies in the store {root}; choose another folder with --store"))
    if _path_within(out, data) == ():
        raise UserError(escape_unprintable(f"{where} is the data root {data}; {remedy}"))
    for option, root in (("--store", store), ("--data", data)):
        inside = _path_within(root, out)
        if inside and _is_reserved(inside[0]):
            taken = f"'{inside[0]}' in {out} is the name of a run's own file or folder"
            raise UserError(escape_unprintable(f"{option} {root}: {taken}; choose another folder with {option}"))


def _stores_around(path: Path) -> Iterator[Path]:
    """Yield the stores that a folder is, or lies in."""
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        with contextlib.suppress(OSError):  # a folder that may not be looked into
            if all((folder / name).is_dir() for name in _STORE_FOLDERS):
                yield folder


def _path_within(path: Path, root: Path) -> tuple[str, ...] | None:
    """Return the path's steps from a root; none if it is the root, and None if it lies elsewhere."""
    steps, above = _steps(path), _steps(root)
    return steps[len(above) :] if steps[: len(above)] == above else None


def _steps(path: Path) -> tuple[str, ...]:
    real = unicodedata.normalize("NFC", os.path.realpath(path))
    return Path(real.casefold()).parts


def _is_reserved(name: str) -> bool:
    return name in (*FILES, _LOCK, _OWNER) or bool(_EARLIER.fullmatch(name) or _HALF_WRITTEN.fullmatch(name))


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make a run's folder, and let no other run write there within the block.

    Raise `UserError` if it cannot be written, or if another run holds it. A file system without locks is no obstacle: then
    nothing keeps two runs apart.
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
    """Raise `UserError` if a folder or a pipe has the name of a file that a run writes."""
    for name in FILES:
        path = folder / name
        if path.is_dir() or path.is_fifo() or path.is_socket():
            what = "a folder" if path.is_dir() else "a pipe or socket"
            message = f"--out {folder}: {name} there is {what}, and a run writes a file of that name; choose another folder"
            raise UserError(escape_unprintable(message))


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {error.strerror}; choose another folder") from None


def _remove_half_written(folder: Path) -> None:
    """Remove what a killed run left of files that it was writing: it lies under such names, and there is more of it nowhere."""
    for rest in folder.glob(".*.part"):
        if not _HALF_WRITTEN.fullmatch(rest.name) or time.time() - rest.lstat().st_mtime < _STALE:
            continue
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest)
        else:
            rest.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the operating system frees when this process dies; say who else holds it."""
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    if not _acquire(lock, folder):
        yield
        return
    try:
        _write_owner(folder)
        yield
    finally:
        for name in (_OWNER, _LOCK):  # before it is freed: whoever opened the file meanwhile sees that it has no name
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        lock.release()


def _acquire(lock: filelock.BaseFileLock, folder: Path) -> bool:
    """Take the lock; return False if the file system has none."""
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(_refusal(folder)) from None
    except (OSError, NotImplementedError):
        return False
    return True


def _write_owner(folder: Path) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # a full disk: the next message knows less
        (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")


def _refusal(folder: Path) -> str:
    who = "another run"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        who = f"another run (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    return escape_unprintable(
        f"{folder}: {who} is writing there; wait until it has ended, or choose another folder with --out; of an array of jobs "
        f"all but the first are refused: give each a folder of its own, such as --out '{folder}-'$SLURM_ARRAY_TASK_ID"
    )
