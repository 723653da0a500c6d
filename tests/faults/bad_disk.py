"""A failing disk, in place of `os` in `harness.files`: at the n-th operation it crashes, is full, or loses unsynced data."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT = 77
"""The exit code of a process that a `BadDisk` has ended."""

FULL = errno.ENOSPC
READ_ONLY = errno.EROFS
FORBIDDEN = errno.EACCES
QUOTA = errno.EDQUOT
TOO_LARGE = errno.EFBIG

MUTATING = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
RENAMING = ("rename", "replace")


class Crashed(BaseException):
    """The process would have ended here; no later operation on this disk has an effect."""


class BadDisk:
    """`os`, with a fault at the n-th operation that changes something on the disk.

    `crash`: the process ends at operation number `at`: "before" it, "after" it, or with "half" of the next write done. It exits
    with the code `EXIT`; with `stay`, `Crashed` is raised instead, and no later operation has an effect.
    `power_cut`: a crash also undoes what was not synced.
    `syncs`: False skips the real fsync calls, which take most of the time.
    `refuse`: from operation `at` on, the operations in `refused` fail with this errno, until `fixed` is set.
    `delay`: the seconds that each operation waits first.
    `under`: operations on paths outside of this folder are not counted and do not fail.
    """

    def __init__(
        self,
        at: int = 10**9,
        crash: str = "",
        *,
        stay: bool = False,
        power_cut: bool = False,
        syncs: bool = True,
        refuse: int = 0,
        refused: tuple[str, ...] = ("open", "write", "fsync", "mkdir"),
        delay: float = 0.0,
        under: Path | None = None,
    ) -> None:
        self.at = at
        self.crash = crash
        self.stay = stay
        self.power_cut = power_cut
        self.syncs = syncs
        self.refuse = refuse
        self.refused = refused
        self.delay = delay
        self.under = under
        self.count = 0
        self.dead = False
        self.fixed = False
        self.seen: list[str] = []
        self.refusals = 0
        self._paths: dict[int, Path] = {}
        self._unsynced: dict[Path, None] = {}
        self._journal: list[tuple[Path, Callable[[], None]]] = []  # (folder whose sync makes it durable, function to undo it)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in MUTATING:
            return real

        def operation(*args: Any, **kwargs: Any) -> Any:
            reads = name == "open" and not args[1] & os.O_CREAT  # or opens a folder to sync it
            if reads or self._is_elsewhere(args[0]):
                result = real(*args, **kwargs)
            else:
                result = self._do(name, real, args, kwargs)
            if name == "open":
                self._paths[result] = Path(args[0])
            return result

        return operation

    def _is_elsewhere(self, where: Path | int) -> bool:
        """Return whether a path, or the path that a descriptor was opened for, is not on this disk."""
        if self.under is None:
            return False
        path = self._paths.get(where) if isinstance(where, int) else Path(where)
        return path is None or not path.is_relative_to(self.under)

    def _do(self, name: str, real: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """Count an operation, then do it, refuse it, or crash."""
        if self.dead:
            raise Crashed
        self.count += 1
        self.seen.append(name)
        time.sleep(self.delay)
        if self.refuse and self.count >= self.at and name in self.refused and not self.fixed:
            self._refuse(name, real, args)
        if self.crash == "before" and self.count == self.at:
            self._end()
        if self.crash == "half" and self.count >= self.at and name == "write":
            _write_half(real, args)
            self._end()
        undo = _undo(name, args) if self.power_cut else None
        try:
            result = self._do_really(name, real, args, kwargs)
        except OSError:
            self._end_after()
            raise
        self._record(name, args, undo)
        self._end_after()
        return result

    def _do_really(self, name: str, real: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        if name == "fsync" and not self.syncs:
            return None
        return real(*args, **kwargs)

    def _refuse(self, name: str, real: Callable[..., Any], args: tuple) -> None:
        self.refusals += 1
        if name == "write" and len(args[1]) > 1:
            _write_half(real, args)  # a full disk writes what fits
        raise OSError(self.refuse, os.strerror(self.refuse))

    def _end_after(self) -> None:
        if self.crash == "after" and self.count == self.at:
            self._end()

    def _end(self) -> None:
        self.dead = True
        if self.power_cut:
            for path in self._unsynced:
                if path.is_file():
                    os.truncate(path, 0)
            for _, undo in reversed(self._journal):
                undo()
        if not self.stay:
            os._exit(EXIT)
        raise Crashed

    def _record(self, name: str, args: tuple, undo: Callable[[], None] | None) -> None:
        """Record what an operation leaves unsynced, or what it syncs."""
        if not self.power_cut:
            return
        if name == "write":
            self._unsynced[self._paths[args[0]]] = None
        if name == "fsync":
            synced = self._paths[args[0]]
            self._unsynced.pop(synced, None)
            self._journal = [(folder, how) for folder, how in self._journal if folder != synced]
        if undo is not None:
            target = Path(args[1]) if name in RENAMING else Path(args[0])
            self._journal.append((target.parent, undo))
            if name in RENAMING and Path(args[0]) in self._unsynced:
                self._unsynced[target] = None


def _write_half(write: Callable[..., Any], args: tuple) -> None:
    descriptor, data = args
    write(descriptor, data[: len(data) // 2])


def _undo(name: str, args: tuple) -> Callable[[], None] | None:
    """Return a function that undoes an operation on names, with the data that the operation is about to replace."""
    if name in ("write", "fsync"):
        return None
    path = Path(args[0])
    if name == "open" and not path.exists():
        return lambda: path.unlink(missing_ok=True)
    if name == "mkdir":
        return lambda: shutil.rmtree(path, ignore_errors=True)
    if name in RENAMING:
        return _undo_rename(path, Path(args[1]))
    return None


def _undo_rename(path: Path, target: Path) -> Callable[[], None]:
    replaced = target.read_bytes() if target.is_file() else None

    def undo() -> None:
        if target.exists() and not path.exists() and path.parent.exists():
            target.rename(path)
        if replaced is not None:
            target.write_bytes(replaced)

    return undo
