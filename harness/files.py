"""Durable file operations: data and names survive a power cut once a function returns, unless an
argument says otherwise. Knows nothing of stores, keys and results.

Every file that the project relies on later is written here, and only through `os`. The fault tests
replace this module's `os` by a failing disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import UserError

_BINARY = getattr(os, "O_BINARY", 0)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old file or the new one.

    Text is encoded as UTF-8; a lone surrogate, as in a file name that is not UTF-8, is written as an
    escape sequence. A link is followed, not replaced. A device or a pipe is written to. Raise
    `UserError` if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            _write_into(target, data)
            return
        staged = target.with_name(f".{secrets.token_hex(8)}.part")
        write_and_replace(target, data, staged, sync_name=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}; name a file in a folder that can be") from None


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing, which replaces `path` at the end of the block, unless the block raises.

    A reader, or a crash, sees the old file or the new one. For files too large to be held in memory. A link is followed.
    Raise `UserError` if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    staged = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(staged, target, durable=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}; name a file in a folder that can be") from None
    finally:
        with contextlib.suppress(OSError):
            remove(staged)


def write_and_replace(path: Path, data: bytes, staged: Path, *, sync_data: bool = True, sync_name: bool = True) -> None:
    """Write a file under the free name `staged`, on the same file system, and rename it to `path`.

    A reader sees the old file or the new one. A power cut may bring the old one back without
    `sync_name`, and may leave an empty file without `sync_data`. Raise `OSError`.
    """
    try:
        write_file(staged, data, durable=sync_data)
        replace(staged, path, durable=sync_name)
    finally:
        with contextlib.suppress(OSError):
            remove(staged)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a new file. Its name survives a power cut once the folder is synced. Raise `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        _write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(path: Path, data: bytes) -> None:
    """Add data to an existing file, without syncing it. On a network file system others see it when they open the file again.

    Raise `OSError`; then the data may be there in part.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _BINARY)
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _write_into(path: Path, data: bytes) -> None:
    """Write to an existing device or pipe."""
    descriptor = os.open(path, os.O_WRONLY | _BINARY)
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        rest = rest[written:]


def sync(path: Path) -> None:
    """Make the data of a file, or the names in a folder, survive a power cut. Raise `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, *, durable: bool = True) -> None:
    """Create a folder, unless it exists; its parent must exist."""
    if os.path.isdir(path):
        return
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):  # if it is a folder, another process was faster
            raise
    if durable:
        sync(path.parent)


def move(source: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a file or a folder to a free name."""
    os.rename(source, target)
    if durable:
        sync(target.parent)


def replace(source: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a file, replacing an existing one; a reader sees the old file or the new one."""
    os.replace(source, target)
    if durable:
        sync(target.parent)


def remove_empty(path: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def remove(path: Path) -> None:
    """Remove a file, a link (not its target), or a folder with its contents, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            return
        for entry in _entries(path):
            remove(entry)
        os.rmdir(path)


def read(path: Path, at_most: int) -> bytes:
    """Return the bytes of a regular file of at most `at_most` bytes.

    A larger file, a pipe (it may block) and a device (it may be endless) are refused before they
    are read, with an `OSError` of `EBADMSG`. Raise other `OSError`s.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > at_most:
            raise OSError(errno.EBADMSG, f"not a file of at most {at_most} bytes")
        return file.read(facts.st_size)


def read_from(path: Path, offset: int, at_most: int) -> bytes:
    """Return up to `at_most` bytes of a file from an offset on. The file is opened anew. Raise `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | _BINARY)
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, at_most)
    finally:
        os.close(descriptor)


def modified(path: Path) -> float:
    """Return when a file or the names in a folder last changed, by the file system's clock. Raise `OSError`."""
    return os.stat(path).st_mtime


def size(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder; missing ones count 0."""
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            return os.lstat(path).st_size
        entries = _entries(path)
    except FileNotFoundError:
        return 0
    return sum(map(size, entries))


def exists(path: Path) -> bool:
    """Return whether anything has this name; a dangling link counts."""
    return os.path.lexists(path)


def refresh(path: Path, base: Path) -> None:
    """Make a path below a folder visible that another machine has created since this one looked for it in vain.

    Clients of network file systems remember for up to a minute that a name does not exist (nfs(5): `lookupcache`). Opening a
    folder makes NFS ask for changes; creating a name that is listed but not found makes any client ask for that name.
    """
    if os.path.lexists(path):
        return
    for step in (*reversed(path.parents), path):
        if base not in step.parents or os.path.lexists(step):
            continue
        if step not in list_folder(step.parent):
            return
        with contextlib.suppress(OSError):
            os.mkdir(step)
            os.rmdir(step)  # it was removed in the meantime


def list_folder(path: Path) -> list[Path]:
    """Return the sorted entries of a folder; none if it does not exist or is no folder."""
    try:
        return sorted(_entries(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [Path(entry.path) for entry in entries]
