"""Published archives: found under the data root, verified by md5, unpacked, downloaded where the net allows. Knows no data set.

Nothing that an archive says becomes a path: only members whose whole name fits a pattern given here are written. Files arrive
aside and are renamed when whole, so an interrupted download or unpacking leaves nothing that looks like data.
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
"""Seconds that a server may stay silent."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A published archive: its name, its address, its md5, the folder it unpacks to and which members are expected."""

    filename: str
    url: str
    md5: str
    folder: str
    members: re.Pattern[str]

    def advice(self, root: Path) -> str:
        """Say what to put where."""
        return f"put {self.filename} (md5 {self.md5}) from {self.url} into {root}"


def provide(archive: Archive, root: Path) -> Path:
    """Return the archive's folder under the data root; if it is not there yet, unpack the archive, downloaded if need be.

    A folder that is there is taken as it is. Raise `DataError` with one line that says which file to put where.
    """
    folder = root / archive.folder
    with _explained(folder):
        if folder.is_dir():
            return folder
        if root.exists() and not root.is_dir():
            raise DataError(f"{root}: the data root is not a folder; choose another with --data or HARNESS_DATA")
    with alone(root, archive.folder):
        if folder.is_dir():  # another process was faster
            return folder
        packed = root / archive.filename
        if packed.is_file():
            check_md5(packed, archive.md5, f"remove it and {archive.advice(root)}")
        else:
            download(archive, root)
        unpack(archive, root)
    return folder


def check_md5(path: Path, expected: str, advice: str) -> None:
    """Raise `DataError` unless a file has this md5."""
    with _explained(path), path.open("rb") as file:
        found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    _compare(path, found, expected, advice)


def read_checked(path: Path, expected: str, advice: str) -> bytes:
    """Return a file's bytes, those very bytes having this md5; raise `DataError` otherwise."""
    with _explained(path, advice):
        content = path.read_bytes()
    _compare(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), expected, advice)
    return content


def download(archive: Archive, root: Path) -> None:
    """Fetch the archive into the data root; it appears there whole and verified, or not at all."""
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT) as response:
            _log.warning("downloading %s to %s", archive.url, root)
            with _made_in(root, archive.filename) as aside:
                with aside.open("wb") as file:
                    shutil.copyfileobj(cast(IO[bytes], response), file, 1 << 20)
                check_md5(aside, archive.md5, f"{archive.url} served something else; {archive.advice(root)}")
                aside.replace(root / archive.filename)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{root / archive.folder}: not there, and the download failed ({_one_line(reason)}); {archive.advice(root)}"
        ) from None


def unpack(archive: Archive, root: Path) -> None:
    """Unpack the wanted members of an archive that lies in the data root; the folder appears there whole, or not at all."""
    packed, folder = root / archive.filename, root / archive.folder
    try:
        with _made_in(root, archive.folder) as aside:
            for name, content in _files(packed):
                if archive.members.fullmatch(name):
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    (aside / name).write_bytes(content())
            (aside / archive.folder).rename(folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        if not folder.is_dir():  # made by another process meanwhile: as good
            raise DataError(
                f"{packed}: cannot be unpacked into {root} ({_one_line(error)}); unpack it by hand, so that {folder} is there"
            ) from None


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """Keep other processes out while something is made under the data root; go on without a lock where none can be had."""
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
def _made_in(root: Path, name: str) -> Iterator[Path]:
    """Give a path (a file's or a folder's, not there yet) beside what is to be made, and leave no trace of it."""
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=root, ignore_cleanup_errors=True) as aside:
        yield Path(aside) / "made"


def _files(packed: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Go through the regular files of a zip or tar archive: name and a function that reads the content."""
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
def _explained(path: Path, advice: str = "") -> Iterator[None]:
    """Turn what the operating system says about a path into a line for the user."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}" + (f"; {advice}" if advice else "")) from None


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
