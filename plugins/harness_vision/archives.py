"""Find published archives under the data root, or download them; verify their md5 and unpack them. Knows no data set.

Only archive members whose whole name matches `Archive.members` are written; no other name in an archive becomes a path.
Files and folders are written to a temporary folder and renamed when complete: an interrupted download or unpacking leaves
nothing that looks like data.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from harness import DataError

TIMEOUT = 15.0
"""Seconds without an answer after which a download fails."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A published archive, a `.zip` file or a tar file.

    `folder` is the top folder of its members. Only members whose whole name matches `members` are unpacked.
    """

    filename: str
    url: str
    md5: str
    folder: str
    members: re.Pattern[str]

    def advice(self, root: Path) -> str:
        """Return the part of an error message that says which file to put into the data root."""
        return f"put {self.filename} (md5 {self.md5}) from {self.url} into {root}"


def provide(archive: Archive, root: Path) -> Path:
    """Return the archive's folder under the data root.

    If the folder is missing, unpack the archive; if the archive is missing too, download it first. An existing folder is not
    checked. Raise `DataError` with one line that says which file to put into the root.
    """
    folder = root / archive.folder
    with _os_errors_as_data_errors(folder):
        if folder.is_dir():
            return folder
        if root.exists() and not root.is_dir():
            raise DataError(f"{root}: the data root is not a folder; choose another with --data or HARNESS_DATA")
    with exclusive_lock(root, archive.folder):
        if folder.is_dir():  # another process has made it meanwhile
            return folder
        packed = root / archive.filename
        if packed.is_file():
            check_md5(packed, archive.md5, f"remove it and {archive.advice(root)}")
        else:
            download(archive, root)
        unpack(archive, root)
    return folder


def check_md5(path: Path, expected: str, advice: str) -> None:
    """Raise `DataError` unless a file has the expected md5; the message ends with `advice`."""
    with _os_errors_as_data_errors(path), path.open("rb") as file:
        found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    _compare(path, found, expected, advice)


def read_checked(path: Path, expected: str, advice: str) -> bytes:
    """Return a file's bytes; raise `DataError` unless the returned bytes have the expected md5.

    The file is read once: a file that changes between a check and a second read could not be trusted.
    """
    with _os_errors_as_data_errors(path, advice):
        content = path.read_bytes()
    _compare(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), expected, advice)
    return content


def download(archive: Archive, root: Path) -> None:
    """Download the archive into the data root; it appears there complete and verified, or not at all."""
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT) as response:
            _log.warning("downloading %s to %s", archive.url, root)
            with _temporary_path(root, archive.filename) as temporary:
                with temporary.open("wb") as file:
                    shutil.copyfileobj(cast(IO[bytes], response), file, 1 << 20)
                check_md5(temporary, archive.md5, f"{archive.url} served something else; {archive.advice(root)}")
                temporary.replace(root / archive.filename)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{root / archive.folder}: not there, and the download failed ({_one_line(reason)}); {archive.advice(root)}"
        ) from None


def unpack(archive: Archive, root: Path) -> None:
    """Unpack the expected members of an archive in the data root; the folder appears there complete, or not at all."""
    packed = root / archive.filename
    folder = root / archive.folder
    try:
        with _temporary_path(root, archive.folder) as temporary:
            for name, read in _files(packed):
                if archive.members.fullmatch(name):
                    path = temporary / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(read())
            (temporary / archive.folder).rename(folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        if not folder.is_dir():  # if it exists, another process has unpacked the archive meanwhile
            raise DataError(
                f"{packed}: cannot be unpacked into {root} ({_one_line(error)}); unpack it by hand, so that {folder} is there"
            ) from None


@contextmanager
def exclusive_lock(root: Path, name: str) -> Iterator[None]:
    """Hold a lock file for `name` under the data root; go on without one if it cannot be created or locked."""
    from filelock import FileLock

    lock = FileLock(root / f".{name}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # a read-only root, a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink()


@contextmanager
def _temporary_path(root: Path, name: str) -> Iterator[Path]:
    """Yield a path under the root where nothing exists yet; remove what is still there afterwards."""
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "made"


def _files(packed: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each regular file of a zip or tar archive, and a function that reads its content."""
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    yield entry.filename, partial(zipped.read, entry)
    else:
        with tarfile.open(packed) as tarred:
            for member in tarred:
                if member.isfile():
                    yield member.name, cast(IO[bytes], tarred.extractfile(member)).read


def _compare(path: Path, found: str, expected: str, advice: str) -> None:
    if found != expected:
        raise DataError(f"{path}: damaged or not the published file: md5 {found}, expected {expected}; {advice}")


@contextmanager
def _os_errors_as_data_errors(path: Path, advice: str = "") -> Iterator[None]:
    """Raise `DataError` with the path and the reason for an `OSError` within the block."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        if advice:
            message = f"{message}; {advice}"
        raise DataError(message) from None


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
