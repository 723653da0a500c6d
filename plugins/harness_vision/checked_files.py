"""Check the md5 of large files once per state of a file, also across processes and commands.

The file `.<name>.checked` beside a checked file holds the md5 and the state that the file had: size, times of the last changes
of content and of inode, and inode. If one of them differs, the file is checked again. Where this file cannot be written (a
read-only data root), each process checks once. Damage that changes none of them, such as that of a failing disk, is only found
after `.<name>.checked` is removed.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from harness import DataError
from harness_vision.archives import check_md5


class FileState(NamedTuple):
    """What tells that a file may have changed; times in nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file; raise `OSError` if there is none."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def check_md5_once(path: Path, expected: str, advice: str) -> None:
    """Raise `DataError` unless a file has the expected md5; the message ends with `advice`.

    The file is read only if it was not checked yet, or has changed since.
    """
    try:
        state = FileState.of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; {advice}") from None
    _check_state(path, expected, advice, state)


@lru_cache(maxsize=256)
def _check_state(path: Path, expected: str, advice: str, state: FileState) -> None:
    """Raise `DataError` unless a file in a state has the md5. A process that has seen this state does not ask again."""
    note = path.with_name(f".{path.name}.checked")
    line = f"{expected} {' '.join(map(str, state))}\n"
    if _is(note, line):
        return
    check_md5(path, expected, advice)
    with suppress(OSError):  # a read-only root: the next process checks again
        if FileState.of(path) == state:  # it did not change while it was read
            _write(note, line)


def _is(note: Path, line: str) -> bool:
    """Return whether a note is there and holds a line."""
    try:
        with note.open("rb") as file:
            return file.read(len(line) + 1) == line.encode()
    except OSError:
        return False


def _write(note: Path, line: str) -> None:
    """Write a note, which appears complete or not at all: several processes may check at once."""
    with tempfile.TemporaryDirectory(prefix=f"{note.name}.", dir=note.parent, ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / note.name
        temporary.write_text(line, encoding="utf-8")
        temporary.replace(note)
