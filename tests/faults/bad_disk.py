"""A failing disk, in place of `os` in `harness.files`: at the n-th operation it crashes, fills up, or loses unsynced data."""

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

MUTATING = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


class Crashed(BaseException):
    """The process would have ended here; whatever it still tries on this disk comes to nothing."""


class BadDisk:
    """`os`, with every operation that changes something counted, and trouble at one of them.

    `crash` says how the n-th operation ends everything: "before" it, "after" it, or with "half" of it done (of the next write,
    that is). In a process of its own the process exits; with `stay`, `Crashed` is raised, and nothing after it has an effect.
    `power_cut`: what was not synced is lost as well. Without `syncs` nothing is really synced, which takes most of the time.
    `refuse`: from the n-th operation on, the operations named fail with this errno, until `fixed`.
    `under`: only what lies in this folder is on the disk; operations elsewhere are not counted and do not fail.
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
        self.at, self.crash, self.stay, self.power_cut, self.syncs = at, crash, stay, power_cut, syncs
        self.refuse, self.refused, self.delay, self.under = refuse, refused, delay, under
        self.count, self.dead, self.fixed = 0, False, False
        self.seen: list[str] = []
        self.refusals = 0
        self._paths: dict[int, Path] = {}
        self._unsynced: dict[Path, None] = {}
        self._journal: list[tuple[Path, Callable[[], None]]] = []  # (folder whose sync makes it last, how to undo it)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in MUTATING:
            return real

        def operation(*args: Any, **kwargs: Any) -> Any:
            reads = name == "open" and not args[1] & os.O_CREAT  # or opens a folder to be synced
            spared = reads or self._is_elsewhere(args[0])
            result = real(*args, **kwargs) if spared else self._do(name, real, args, kwargs)
            if name == "open":
                self._paths[result] = Path(args[0])
            return result

        return operation

    def _is_elsewhere(self, where: Path | int) -> bool:
        """Say whether a path, or what a descriptor was opened for, is not on this disk."""
        if self.under is None:
            return False
        path = self._paths.get(where) if isinstance(where, int) else Path(where)
        return path is None or not path.is_relative_to(self.under)

    def _do(self, name: str, real: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        if self.dead:
            raise Crashed
        self.count += 1
        self.seen.append(name)
        time.sleep(self.delay)
        here = self.count == self.at
        if self.refuse and self.count >= self.at and name in self.refused and not self.fixed:
            self.refusals += 1
            if name == "write" and len(args[1]) > 1:
                real(args[0], args[1][: len(args[1]) // 2])  # a full disk takes what fits
            raise OSError(self.refuse, os.strerror(self.refuse))
        if here and self.crash == "before":
            self._end()
        if self.count >= self.at and self.crash == "half" and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])
            self._end()
        undo = self._undo(name, args) if self.power_cut else None
        try:
            result = real(*args, **kwargs) if self.syncs or name != "fsync" else None
        except OSError:
            if here and self.crash == "after":
                self._end()
            raise
        if self.power_cut:
            self._note(name, args, undo)
        if here and self.crash == "after":
            self._end()
        return result

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

    def _undo(self, name: str, args: tuple) -> Callable[[], None] | None:
        """Return how an operation on names is undone, with what it is about to destroy kept."""
        path = Path(args[0]) if name not in ("write", "fsync") else None
        if name == "open" and path is not None and not path.exists():
            return lambda: path.unlink(missing_ok=True)
        if name == "mkdir" and path is not None:
            return lambda: shutil.rmtree(path, ignore_errors=True)
        if name in ("rename", "replace") and path is not None:
            target = Path(args[1])
            old = target.read_bytes() if target.is_file() else None

            def back() -> None:
                if target.exists() and not path.exists() and path.parent.exists():
                    target.rename(path)
                if old is not None:
                    target.write_bytes(old)

            return back
        return None

    def _note(self, name: str, args: tuple, undo: Callable[[], None] | None) -> None:
        if name == "write":
            self._unsynced[self._paths[args[0]]] = None
        if name == "fsync":
            path = self._paths[args[0]]
            self._unsynced.pop(path, None)
            self._journal = [(folder, how) for folder, how in self._journal if folder != path]
        if undo is not None:
            folder = Path(args[1] if name in ("rename", "replace") else args[0]).parent
            self._journal.append((folder, undo))
            if name in ("rename", "replace") and Path(args[0]) in self._unsynced:
                self._unsynced[Path(args[1])] = None


FULL, READ_ONLY, FORBIDDEN, QUOTA = errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT
