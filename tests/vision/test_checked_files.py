"""The md5 of a large file is computed once per state of the file, also across processes."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from harness import DataError
from harness_vision.checked_files import check_md5_once

ADVICE = "put the file there"


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def note_for(path: Path, md5: str) -> str:
    """Return the line that says that a file, as it is now, has an md5."""
    status = path.stat()
    return f"{md5} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    path.write_bytes(b"published")
    return path


def test_a_checked_file_leaves_a_note(path: Path) -> None:
    """The note beside the file has its md5, size, both times and inode, and nothing else is left."""
    check_md5_once(path, md5_of(b"published"), ADVICE)
    note = path.with_name(".images.npy.checked")
    assert note.read_text() == note_for(path, md5_of(b"published"))
    assert sorted(file.name for file in path.parent.iterdir()) == [".images.npy.checked", "images.npy"]


def test_a_file_with_a_note_is_not_read(path: Path) -> None:
    """Another process has checked this state: what the note says is believed, until the file changes."""
    expected = md5_of(b"what another process has read")
    path.with_name(".images.npy.checked").write_text(note_for(path, expected))
    check_md5_once(path, expected, ADVICE)
    path.write_bytes(b"cut")
    found = f"md5 {md5_of(b'cut')}, expected {expected}; {ADVICE}"
    with pytest.raises(DataError, match=rf"images\.npy: damaged or not the published file: {re.escape(found)}$"):
        check_md5_once(path, expected, ADVICE)


def test_content_that_changes_under_the_same_size_and_time(path: Path) -> None:
    """A file that is edited in place, whose time of change is then set back, is read again."""
    expected = md5_of(b"published")
    check_md5_once(path, expected, ADVICE)
    before = path.stat()
    path.write_bytes(b"forgeries")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(DataError, match=f"md5 {md5_of(b'forgeries')}, expected {expected}"):
        check_md5_once(path, expected, ADVICE)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0" * 100_000], ids=["empty", "no text", "long"])
def test_damaged_notes(path: Path, content: bytes) -> None:
    """A note that does not say exactly this is replaced after the file was read."""
    note = path.with_name(".images.npy.checked")
    note.write_bytes(content)
    check_md5_once(path, md5_of(b"published"), ADVICE)
    assert note.read_text() == note_for(path, md5_of(b"published"))


def test_a_note_of_another_md5(path: Path) -> None:
    """A file that was another version's is checked for this one's md5."""
    path.with_name(".images.npy.checked").write_text(note_for(path, md5_of(b"published")))
    with pytest.raises(DataError, match="damaged or not the published file"):
        check_md5_once(path, md5_of(b"another version"), ADVICE)


def test_a_folder_that_cannot_take_the_note(path: Path) -> None:
    """The file is checked all the same; no temporary file is left."""
    path.with_name(".images.npy.checked").mkdir()
    check_md5_once(path, md5_of(b"published"), ADVICE)
    assert sorted(file.name for file in path.parent.iterdir()) == [".images.npy.checked", "images.npy"]


def test_a_missing_file(tmp_path: Path) -> None:
    """It is named, with the reason and the way out."""
    with pytest.raises(DataError, match=r"none\.npy: cannot be read: No such file or directory; put the file there$"):
        check_md5_once(tmp_path / "none.npy", md5_of(b""), ADVICE)
