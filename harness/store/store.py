"""A folder of content-addressed objects, and what belongs to making them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from harness.errors import DamagedObject, StoreError
from harness.store import company, disk, objects
from harness.store.disk import explained
from harness.task import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

KEY = re.compile(r"[0-9a-f]{64}")
ROOMS = ("objects", "progress", "trajectories", "tasks", "failures", "leases", "set_aside", company.ROOM)

P = ParamSpec("P")
T = TypeVar("T")


def _explained(what: str) -> Callable[[Callable[Concatenate[Store, P], T]], Callable[Concatenate[Store, P], T]]:
    """Turn the operating system's errors within a method into one line."""

    def decorate(method: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[Store, P], T]:
        @functools.wraps(method)
        def wrapped(self: Store, *args: P.args, **kwargs: P.kwargs) -> T:
            with explained(self.root, what):
                return method(self, *args, **kwargs)

        return wrapped

    return decorate


class Store:
    """A folder of content-addressed objects, shared by any number of runs.

    Making one touches nothing: a store that can only be read can be read. Folders are made by the first writing, or by
    `prepare`. Every method raises `StoreError` where the operating system refuses.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root.absolute()  # a plugin may change the working folder
        self._aside = company.Aside(self.base)
        self._made = False

    @_explained("cannot be used")
    def prepare(self) -> None:
        """Make sure that the store can be written, before hours of work go into it, and remove what dead writers left."""
        self._make_rooms()
        probe = self._aside.path()
        disk.write_file(probe, bytes(4096))
        disk.remove(probe)
        self._aside.sweep()
        company.sweep_leases(self.base / "leases")
        self._sweep_progress()

    @contextlib.contextmanager
    def shut(self) -> Iterator[int]:
        """Let no other process begin to write within the block; yield how many others have begun before."""
        with contextlib.ExitStack() as stack:
            with explained(self.root, "cannot be locked"):
                others = stack.enter_context(self._aside.shut())
            yield others

    # -- objects

    @_explained("cannot be read")
    def has(self, key: str) -> bool:
        """Say whether an object is there, whole as far as its files' sizes tell."""
        return objects.is_whole(self._object(key))

    def present(self, key: str) -> bool:
        """Say whether anything lies under a key, be it damaged."""
        return os.path.lexists(self._object(key))

    @_explained("cannot be read")
    def meta(self, key: str) -> dict[str, Any]:
        """Return an object's meta-data; raise `DamagedObject` if it does not match its digest."""
        return objects.read_meta(self._object(key), key)

    @_explained("cannot be read")
    def tensors(self, key: str, part: str = "weights") -> dict[str, Tensor]:
        """Return the tensors of one part; raise `DamagedObject` if a byte of it has changed."""
        return objects.read_part(self._object(key), key, objects.read_meta(self._object(key), key), part)

    @_explained("cannot be read")
    def verify(self, key: str) -> None:
        """Read all of an object against its digests; raise `DamagedObject`."""
        objects.verify(self._object(key), key)

    def path(self, key: str, part: str = "weights") -> Path:
        """Return where a part's safetensors file lies."""
        return self.root / self._object(key).relative_to(self.base) / objects.part_file(part)

    def put(self, key: str, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Write an object: either all of it is there afterwards, on disk, or nothing. An object that is there and whole
        stays; a damaged one is set aside."""
        with explained(self.root, f"cannot take object {key[:12]}"):
            self._write(self._object(key), key, meta, parts or {})

    def damage(self, key: str) -> str:
        """Say what is wrong with an object, all of it read; nothing if it is good."""
        try:
            self.verify(key)
        except DamagedObject as error:
            return error.reason
        return ""

    def set_aside(self, key: str) -> Path:
        """Move a damaged object out of the way, never deleting it; return where it lies now."""
        return self._out_of_the_way(self._object(key), key)

    def move_aside(self, path: str) -> Path:
        """Move something damaged out of the way, as `damages` names it; return where it lies now."""
        _, _, name, *step = path.split("/")
        return self._out_of_the_way(self.base / path, "-step-".join([name, *step]))

    @_explained("cannot be read")
    def keys(self) -> Iterator[str]:
        """Return the keys of all objects, sorted."""
        return iter([path.name for path in self.inside("objects")])

    # -- trajectories: which of their epochs are stored

    @_explained("cannot be written")
    def note_epoch(self, trajectory: str, epoch: int, key: str) -> None:
        """Remember under which key a checkpoint of a trajectory is stored, or will be: without the object the note is mute."""
        path = self._room("trajectories", trajectory)
        notes, bad = self.notes(trajectory)
        if bad:
            self._out_of_the_way(path, f"{trajectory}-notes")
        self._replace(path, _notes_text(trajectory, {**notes, epoch: key}).encode(), lasting=True)

    def epochs(self, trajectory: str) -> dict[int, str]:
        """Return the stored checkpoints of a trajectory, epoch → key. Notes that have changed since they were made are passed
        over."""
        return {epoch: key for epoch, key in self.notes(trajectory)[0].items() if self.has(key)}

    @_explained("cannot be read")
    def notes(self, trajectory: str) -> tuple[dict[int, str], int]:
        """Return what was noted of a trajectory, epoch → key, and how many lines are not as they were written.

        Every line has its digest, so that one that has changed is no loss of the others, and the last one is of all.
        """
        try:
            text = disk.read(self._room("trajectories", trajectory), objects.MAX_META).decode("ascii", "replace")
        except OSError as error:
            if isinstance(error, FileNotFoundError) or objects.is_rot(error):
                return {}, int(not isinstance(error, FileNotFoundError))
            raise
        found: dict[int, str] = {}
        for line in text.split("\n"):
            epoch, key, digest = (*line.split(" "), "", "", "")[:3]
            right = re.fullmatch(r"[0-9]{1,9}", epoch) and KEY.fullmatch(key)
            if right and digest == _note_digest(trajectory, f"{epoch} {key}"):
                found[int(epoch)] = key
        written = _notes_text(trajectory, found)
        return found, 0 if text == written else len(set(text.split("\n")) ^ set(written.split("\n")))

    # -- progress within a training

    def save_progress(
        self, trajectory: str, step: int, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Keep the state reached in a training; earlier ones of the same training go. `meta["task"]` names the object that
        the training is on its way to: once that is there, `prepare` lets the state go."""
        room = self._room("progress", trajectory)
        with explained(self.root, "cannot take the state of a training"):
            self._make_rooms()
            disk.make_folder(room.parent)
            disk.make_folder(room)
            self._write(room / str(step), trajectory, {**meta, "step": step}, parts)
            self.drop_progress(trajectory, step - 1)

    @_explained("cannot be read")
    def progress(self, trajectory: str) -> Iterator[int]:
        """Return the steps at which states of a training are kept, the last first."""
        names = [entry.name for entry in _entries(self._room("progress", trajectory))]
        return iter(sorted((int(name) for name in names if re.fullmatch(r"[0-9]{1,12}", name)), reverse=True))

    @_explained("cannot be read")
    def load_progress(self, trajectory: str, step: int) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Return the meta-data and the parts of a kept state; raise `DamagedObject`."""
        folder = self._state(trajectory, step)
        meta = self.progress_meta(trajectory, step)
        return meta, {part: objects.read_part(folder, trajectory, meta, part) for part in meta["files"]}

    @_explained("cannot be read")
    def progress_meta(self, trajectory: str, step: int) -> dict[str, Any]:
        """Return the meta-data of a kept state; raise `DamagedObject`."""
        meta = objects.read_meta(self._state(trajectory, step), trajectory)
        if meta.get("step") != step:
            raise DamagedObject(trajectory, f"the state at step {step} is another step's")
        return meta

    @_explained("cannot be read")
    def verify_progress(self, trajectory: str, step: int) -> None:
        """Read all of a kept state against its digests; raise `DamagedObject`."""
        self.progress_meta(trajectory, step)
        objects.verify(self._state(trajectory, step), trajectory)

    def set_progress_aside(self, trajectory: str, step: int) -> Path:
        """Move a damaged state out of the way, never deleting it; return where it lies now."""
        return self._out_of_the_way(self._state(trajectory, step), f"{trajectory}-step-{step}")

    @_explained("cannot be written")
    def drop_progress(self, trajectory: str, upto: int) -> None:
        """Forget the kept states of a training up to a step."""
        room = self._room("progress", trajectory)
        for step in [step for step in self.progress(trajectory) if step <= upto]:
            self.discard(room / str(step))
        disk.remove_empty(room)

    def _sweep_progress(self) -> None:
        """Let go of states whose training has arrived, and was killed before it could do so itself."""
        for room in self.inside("progress"):
            for step in self.progress(room.name):
                with contextlib.suppress(DamagedObject, StoreError):  # who may not read it may leave it
                    task = self.progress_meta(room.name, step).get("task")
                    if isinstance(task, str) and KEY.fullmatch(task) and self.has(task):
                        self.drop_progress(room.name, step)
            disk.remove_empty(room)

    # -- tasks and failures

    @_explained("cannot be written")
    def write_task(self, key: str, task: Mapping[str, Any]) -> None:
        """Keep what a worker needs to make an object."""
        path = self._room("tasks", key, ".json")
        data = canonical_json({"sha256": objects.digest(task), "task": task}).encode()
        with contextlib.suppress(OSError):
            if disk.read(path, len(data)) == data:
                return
        self._replace(path, data)  # not synced: every run writes the tasks that it hands out

    def read_task(self, key: str) -> dict[str, Any]:
        """Return a kept task; raise `StoreError` if there is none, or not what was kept."""
        try:
            kept = json.loads(disk.read(self._room("tasks", key, ".json"), objects.MAX_META))
            task = kept["task"]
            if not isinstance(task, dict) or task.get("key") != key or kept["sha256"] != objects.digest(task):
                raise ValueError
            return task
        except (OSError, *objects.MALFORMED) as error:
            raise StoreError(
                f"{self.root}: no readable task {key}; `harness run` writes them ({type(error).__name__})"
            ) from None

    @_explained("cannot be written")
    def record_failure(self, key: str, facts: Mapping[str, Any]) -> Path:
        """Keep the last failed attempt at a task; return where."""
        path = self._room("failures", key, ".json")
        self._replace(path, json.dumps(facts, indent=1, default=str).encode())
        return self.root / path.relative_to(self.base)

    def failure(self, key: str) -> Path | None:
        """Return where the last failed attempt at a task is kept, with its traceback, if there is one."""
        path = self._room("failures", key, ".json")
        return self.root / path.relative_to(self.base) if path.is_file() else None

    # -- company

    @contextlib.contextmanager
    def lease(self, key: str) -> Iterator[bool]:
        """Hold the right to work on a task within the block; yield False at once if another run holds it."""
        self._object(key)
        with contextlib.ExitStack() as stack:
            with explained(self.root, "cannot be locked"):
                self._make_rooms()
                mine = stack.enter_context(company.lease(self.base / "leases" / f"{key}.lock"))
            yield mine

    def resolve(self, prefix: str) -> str:
        """Return the one key that starts with a prefix, among objects and tasks; raise `StoreError`."""
        if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
            raise StoreError(
                f"{prefix[:80]!r} is not a key; 4 to 64 hexadecimal digits, as the rows and `harness plan --json` print them"
            )
        with explained(self.root, "cannot be read"):
            folders = [self.base / room / prefix[:2] for room in ("objects", "tasks")]
            names = {entry.name.removesuffix(".json") for folder in folders for entry in _entries(folder)}
        found = sorted(name for name in names if name.startswith(prefix) and KEY.fullmatch(name))
        if len(found) != 1:
            what = "nothing" if not found else f"{len(found)} things"
            raise StoreError(f"{self.root}: {what} under '{prefix}'; give more or other digits")
        return found[0]

    # -- file names and writing

    @_explained("cannot be read")
    def inside(self, room: str) -> list[Path]:
        """Return what lies in a room under its key, sorted."""
        found = [path for folder in sorted(_entries(self.base / room)) for path in sorted(_entries(folder))]
        return [path for path in found if _is_placed(path, room)]

    @_explained("cannot be read")
    def loose(self, folder: str = "") -> list[Path]:
        """Return whatever lies in a folder of the store, sorted."""
        return sorted(_entries(self.base / folder))

    @_explained("cannot be written")
    def discard(self, path: Path) -> None:
        """Remove something whole: it is moved first, so that nobody ever sees half of it."""
        self._make_rooms()
        aside = self._aside.path()
        with contextlib.suppress(FileNotFoundError):
            disk.move(path, aside)
            disk.remove(aside)

    def _object(self, key: str) -> Path:
        return self._room("objects", key)

    def _state(self, trajectory: str, step: int) -> Path:
        return self._room("progress", trajectory) / str(int(step))

    def _room(self, room: str, key: str, suffix: str = "") -> Path:
        if not (isinstance(key, str) and KEY.fullmatch(key)):
            raise ValueError(f"{key!r:.80} is not a key")
        return self.base / room / key[:2] / f"{key}{suffix}"

    def _make_rooms(self) -> None:
        """Make the store's folders once; a store that is gone later is not made anew behind the user's back."""
        if not self._made:
            self.base.mkdir(parents=True, exist_ok=True)
            for room in ROOMS:
                disk.make_folder(self.base / room)
            self._made = True

    def _write(self, target: Path, key: str, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write a folder aside, sync it, and rename it into place; one that got there first stays, if it is whole."""
        self._make_rooms()
        aside = self._aside.path()
        try:
            disk.make_folder(aside, lasting=False)
            objects.write(aside, key, meta, parts)
            disk.make_folder(target.parent)
            while True:
                try:
                    return disk.move(aside, target)
                except OSError:
                    if not os.path.lexists(target):
                        raise
                try:
                    return objects.verify(target, key)
                except DamagedObject:
                    self._out_of_the_way(target, key)
        finally:
            disk.remove(aside)

    def _replace(self, path: Path, data: bytes, *, lasting: bool = False) -> None:
        """Write a file aside and put it in another's place. What need not last is read by nobody who cannot do without."""
        self._make_rooms()
        aside = self._aside.path()
        try:
            disk.write_file(aside, data, lasting=lasting)
            disk.make_folder(path.parent, lasting=lasting)
            if path.is_dir():
                self._out_of_the_way(path, path.stem)
            disk.replace(aside, path, lasting=lasting)
        finally:
            disk.remove(aside)

    def _out_of_the_way(self, path: Path, name: str) -> Path:
        target = self.base / "set_aside" / f"{name}-{uuid.uuid4().hex[:8]}"
        with explained(self.root, "cannot set a damaged object aside"), contextlib.suppress(FileNotFoundError):
            self._make_rooms()
            disk.move(path, target)
        return self.root / target.relative_to(self.base)


def _is_placed(path: Path, room: str) -> bool:
    """Say whether a path in a room is one that the store gives."""
    suffix = ".json" if room in ("tasks", "failures") else ""
    key = path.name.removesuffix(suffix)
    return bool(KEY.fullmatch(key)) and path.name == key + suffix and path.parent.name == key[:2]


def _notes_text(trajectory: str, notes: Mapping[int, str]) -> str:
    """Return the notes of a trajectory as its file holds them."""
    lines = [f"{epoch} {key}" for epoch, key in sorted(notes.items())]
    return "".join(f"{line} {_note_digest(trajectory, line)}\n" for line in [*lines, f"end {len(lines)}"])


def _note_digest(trajectory: str, line: str) -> str:
    return hashlib.sha256(f"{trajectory} {line}".encode()).hexdigest()[:16]


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it is not there, or no folder."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
