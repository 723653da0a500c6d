"""Objects on disk; the only file that knows file names.

ROOT/objects/ab/<key>/     meta.json and one .safetensors file per part: written aside, fsynced, renamed
ROOT/progress/ab/<key>/    states within a training, a folder per step; gone when the training has arrived
ROOT/trajectories/ab/<key> which epochs of a trajectory are stored, a line each
ROOT/tasks/ab/<key>.json   what `harness worker` needs to make an object
ROOT/failures/ab/<key>.json  the last failed attempt, beside the object, never as the object
ROOT/leases/<key>.lock     held while a task is worked on; the operating system frees it when its holder dies
ROOT/set_aside/            objects whose bytes no longer matched their digests
ROOT/aside/                being written
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from harness.errors import DamagedObject, StoreError
from harness.task import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

_KEY = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[a-z0-9-]{1,64}")


class Store:
    """A folder of content-addressed objects, shared by any number of runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with self._explained("cannot be used"):
            for room in ("objects", "progress", "trajectories", "tasks", "failures", "leases", "set_aside", "aside"):
                (root / room).mkdir(parents=True, exist_ok=True)
            probe = root / "aside" / f"probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()

    # -- objects

    def has(self, key: str) -> bool:
        """Say whether an object is there, whole as far as its files' sizes tell."""
        try:
            meta = json.loads((self._object(key) / "meta.json").read_bytes())
            sizes = {part: (self._object(key) / f"{part}.safetensors").stat().st_size for part in meta["files"]}
            return all(sizes[part] == file["bytes"] for part, file in meta["files"].items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def present(self, key: str) -> bool:
        """Say whether anything lies under a key, be it damaged."""
        return self._object(key).exists()

    def meta(self, key: str) -> dict[str, Any]:
        """Return an object's meta-data; raise `DamagedObject` if it does not match its digest."""
        return _read_meta(self._object(key), key)

    def tensors(self, key: str, part: str = "weights") -> dict[str, Tensor]:
        """Return the tensors of one part; raise `DamagedObject` if a byte of it has changed."""
        return _read_part(self._object(key), key, self.meta(key), part)

    def verify(self, key: str) -> None:
        """Read all of an object against its digests; raise `DamagedObject`."""
        meta = self.meta(key)
        for part in meta["files"]:
            _read_bytes(self._object(key), key, meta, part)

    def path(self, key: str, part: str = "weights") -> Path:
        """Return where a part's safetensors file lies."""
        if not _PART.fullmatch(part):
            raise ValueError(f"'{part}' is not the name of a part")
        return self._object(key) / f"{part}.safetensors"

    def put(self, key: str, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Write an object: either all of it is there afterwards, on disk, or nothing. An object that is there stays."""
        with self._explained(f"cannot take object {key[:12]}"):
            self._write(self._object(key), key, meta, parts or {})

    def set_aside(self, key: str) -> Path:
        """Move a damaged object out of the way, never deleting it; return where it lies now."""
        target = self.root / "set_aside" / f"{key}-{time.time_ns()}"
        with self._explained("cannot set a damaged object aside"), contextlib.suppress(FileNotFoundError):
            self._object(key).rename(target)
        return target

    def keys(self) -> Iterator[str]:
        """Yield the keys of all objects."""
        for folder in sorted((self.root / "objects").iterdir()):
            yield from (entry.name for entry in sorted(folder.iterdir()) if _KEY.fullmatch(entry.name))

    # -- trajectories: which of their epochs are stored

    def note_epoch(self, trajectory: str, epoch: int, key: str) -> None:
        """Remember that a checkpoint of a trajectory is stored."""
        path = self._room("trajectories", trajectory)
        with self._explained("cannot be written"):
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(f"{epoch} {key}\n")

    def epochs(self, trajectory: str) -> dict[int, str]:
        """Return the stored checkpoints of a trajectory, epoch → key."""
        try:
            lines = self._room("trajectories", trajectory).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found = {
            int(epoch): key
            for epoch, _, key in (line.partition(" ") for line in lines)
            if epoch.isdigit() and _KEY.fullmatch(key)
        }
        return {epoch: key for epoch, key in found.items() if self.has(key)}

    # -- progress within a training

    def save_progress(
        self, trajectory: str, step: int, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Keep the state reached in a training; earlier ones of the same training go."""
        room = self._room("progress", trajectory)
        with self._explained("cannot take the state of a training"):
            room.mkdir(parents=True, exist_ok=True)
            self._write(room / str(step), trajectory, meta, parts)
            self.drop_progress(trajectory, keep=step)

    def progress(self, trajectory: str) -> Iterator[int]:
        """Yield the steps at which states of a training are kept, the last first."""
        room = self._room("progress", trajectory)
        steps = [int(entry.name) for entry in room.iterdir() if entry.name.isdigit()] if room.is_dir() else []
        yield from sorted(steps, reverse=True)

    def load_progress(self, trajectory: str, step: int) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Return the meta-data and the parts of a kept state; raise `DamagedObject`."""
        folder = self._room("progress", trajectory) / str(step)
        meta = _read_meta(folder, trajectory)
        return meta, {part: _read_part(folder, trajectory, meta, part) for part in meta["files"]}

    def drop_progress(self, trajectory: str, keep: int | None = None) -> None:
        """Forget the kept states of a training (but one)."""
        room = self._room("progress", trajectory)
        for step in list(self.progress(trajectory)):
            if step != keep:
                shutil.rmtree(room / str(step), ignore_errors=True)

    # -- tasks and failures

    def write_task(self, key: str, task: Mapping[str, Any]) -> None:
        """Keep what a worker needs to make an object."""
        path = self._room("tasks", key, ".json")
        text = canonical_json(task)
        with self._explained("cannot be written"):
            if path.exists() and path.read_text() == text:
                return
            path.parent.mkdir(exist_ok=True)
            self._replace(path, text)

    def read_task(self, key: str) -> dict[str, Any]:
        """Return a kept task; raise `StoreError` if there is none."""
        try:
            return json.loads(self._room("tasks", key, ".json").read_text())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.root}: no readable task {key}; `harness run` writes them ({type(error).__name__})"
            ) from None

    def record_failure(self, key: str, facts: Mapping[str, Any]) -> None:
        """Keep the last failed attempt at a task."""
        path = self._room("failures", key, ".json")
        with self._explained("cannot be written"):
            path.parent.mkdir(exist_ok=True)
            self._replace(path, json.dumps(facts, indent=1))

    # -- company

    @contextlib.contextmanager
    def lease(self, key: str) -> Iterator[bool]:
        """Hold the right to work on a task within the block; yield False at once if another run holds it."""
        self._object(key)
        lock = filelock.FileLock(self.root / "leases" / f"{key}.lock", timeout=0)
        with self._explained("cannot be locked"):
            try:
                lock.acquire()
                mine = True
            except filelock.Timeout:
                mine = False
        if not mine:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def resolve(self, prefix: str) -> str:
        """Return the one key that starts with a prefix, among objects and tasks; raise `StoreError`."""
        if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
            raise StoreError(
                f"'{prefix}' is not a key; 4 to 64 hexadecimal digits, as the rows and `harness plan --json` print them"
            )
        folders = [self.root / room / prefix[:2] for room in ("objects", "tasks")]
        names = {entry.name.removesuffix(".json") for folder in folders if folder.is_dir() for entry in folder.iterdir()}
        found = sorted(name for name in names if name.startswith(prefix))
        if len(found) != 1:
            what = "nothing" if not found else f"{len(found)} things"
            raise StoreError(f"{self.root}: {what} under '{prefix}'; give more or other digits")
        return found[0]

    # -- file names and writing

    def _object(self, key: str) -> Path:
        return self._room("objects", key)

    def _room(self, room: str, key: str, suffix: str = "") -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key")
        return self.root / room / key[:2] / f"{key}{suffix}"

    def _write(self, target: Path, key: str, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write a folder aside, sync it, and rename it into place; a folder that got there first stays."""
        import safetensors.torch

        aside = self.root / "aside" / uuid.uuid4().hex
        lock = filelock.FileLock(f"{aside}.lock")
        with lock:
            try:
                aside.mkdir()
                files: dict[str, dict[str, Any]] = {}
                for part, tensors in parts.items():
                    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
                    _write_synced(aside / f"{part}.safetensors", data)
                    files[part] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                body = {**meta, "key": key, "files": files}
                text = json.dumps({**body, "sha256": hashlib.sha256(canonical_json(body).encode()).hexdigest()}, indent=1)
                _write_synced(aside / "meta.json", text.encode())
                _sync_folder(aside)
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError) if target.exists() else contextlib.nullcontext():
                    aside.rename(target)
                _sync_folder(target.parent)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        Path(f"{aside}.lock").unlink(missing_ok=True)

    def _replace(self, path: Path, text: str) -> None:
        aside = self.root / "aside" / uuid.uuid4().hex
        try:
            _write_synced(aside, text.encode())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn the operating system's errors into one line that says what to do."""
        try:
            yield
        except OSError as error:
            mend = {
                errno.ENOSPC: "no space left on the device; free some, or move the store with --store",
                errno.EDQUOT: "the disk quota is used up; free some, or move the store with --store",
                errno.EROFS: "the file system is read-only; choose another folder with --store",
                errno.EACCES: "permission denied; choose another folder with --store",
                errno.EPERM: "permission denied; choose another folder with --store",
                errno.ENOTDIR: "a file is in the way; choose another folder with --store",
                errno.EEXIST: "a file is in the way; choose another folder with --store",
            }
            reason = mend.get(error.errno or 0, f"{error.strerror or error}")
            raise StoreError(f"store {self.root}: {what}: {reason}") from error


def sweep(store: Store) -> None:
    """Remove what dead writers left in the middle of writing; what a living one holds stays."""
    for entry in (store.root / "aside").iterdir():
        name = entry.name.removesuffix(".lock")
        lock = filelock.FileLock(store.root / "aside" / f"{name}.lock", timeout=0)
        with contextlib.suppress(filelock.Timeout, OSError), lock:
            if time.time() - entry.stat().st_mtime > 1:
                shutil.rmtree(store.root / "aside" / name, ignore_errors=True)
                (store.root / "aside" / name).unlink(missing_ok=True) if (store.root / "aside" / name).is_file() else None
                Path(lock.lock_file).unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_meta(folder: Path, key: str) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        digest = meta.pop("sha256")
    except FileNotFoundError:
        raise DamagedObject(key, "it is not there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedObject(key, f"meta.json is unreadable ({type(error).__name__})") from None
    if hashlib.sha256(canonical_json(meta).encode()).hexdigest() != digest or meta.get("key") != key:
        raise DamagedObject(key, "meta.json does not match its digest")
    return meta


def _read_bytes(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> bytes:
    if part not in meta["files"]:
        raise DamagedObject(key, f"it has no part '{part}'")
    try:
        data = (folder / f"{part}.safetensors").read_bytes()
    except OSError as error:
        raise DamagedObject(key, f"{part}.safetensors is unreadable ({type(error).__name__})") from None
    if len(data) != meta["files"][part]["bytes"] or hashlib.sha256(data).hexdigest() != meta["files"][part]["sha256"]:
        raise DamagedObject(key, f"{part}.safetensors does not match its digest")
    return data


def _read_part(folder: Path, key: str, meta: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    import safetensors.torch

    return safetensors.torch.load(_read_bytes(folder, key, meta, part))
