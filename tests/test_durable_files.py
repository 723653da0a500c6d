"""`harness.files`: atomic writes, and reads of regular files only. Its `os` is replaced by a failing disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from faults.bad_disk import FULL, BadDisk, Crashed
from harness import files
from harness.errors import UserError
from harness.files import write_atomically


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has advice, and no other file remains."""
    path = tmp_path / "board.md"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL))
        with pytest.raises(UserError) as error:
            write_atomically(path, "new")
    advice = "name a file in a folder that can be"
    assert str(error.value) == f"{path}: cannot be written: No space left on device; {advice}"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, at: int) -> None:
    """This holds for a crash at every operation, with everything lost that was not synced."""
    path = tmp_path / "board.md"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(at, how, stay=True, power_cut=True))
        try:
            write_atomically(path, "new")
        except Crashed:
            assert path.read_text() in ("old", "new")
        else:
            assert path.read_text() == "new"


@pytest.mark.parametrize("path", ["nowhere/board.md", "file/board.md", "folder"])
def test_path_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    """A missing folder, a file as a folder, and a folder as a file are one-line errors."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r": cannot be written: .*; name a file in a folder that can be"):
        write_atomically(tmp_path / path, "text")


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    """Bytes are not encoded."""
    write_atomically(tmp_path / "picture", b"\x89PNG\r\n\xff")
    assert (tmp_path / "picture").read_bytes() == b"\x89PNG\r\n\xff"


def test_lone_surrogate_is_escaped(tmp_path: Path) -> None:
    """A file name that is not UTF-8 can be written to a report."""
    write_atomically(tmp_path / "page", "caf\xe9 \ud800")
    assert (tmp_path / "page").read_bytes() == b"caf\xc3\xa9 \\ud800"


def test_link_is_followed(tmp_path: Path) -> None:
    """The target of a link is written, and the link is kept."""
    target = tmp_path / "target"
    link = tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    write_atomically(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"


def test_pipe_is_written_to(tmp_path: Path) -> None:
    """A pipe or a device is not replaced, so that `--out /dev/stdout` works."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    """A written file has the permissions of any new file, not those of a private temporary file."""
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "written", "text")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """`write_file` only writes new files."""
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileExistsError):
        files.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_large_file_is_refused(tmp_path: Path) -> None:
    """A file above the limit is an error, before it is read."""
    (tmp_path / "file").write_bytes(bytes(11))
    assert files.read(tmp_path / "file", 11) == bytes(11)
    with pytest.raises(OSError, match="not a file of at most 10 bytes"):
        files.read(tmp_path / "file", 10)


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    """Removing a folder does not remove the targets of links in it."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path)
    files.remove(tmp_path / "folder")
    files.remove(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_missing_folder_is_empty(tmp_path: Path) -> None:
    """Neither a missing folder nor a file has entries."""
    (tmp_path / "file").touch()
    assert files.list_folder(tmp_path / "none") == []
    assert files.list_folder(tmp_path / "file") == []
    assert files.list_folder(tmp_path) == [tmp_path / "file"]


def test_size_is_of_all_files(tmp_path: Path) -> None:
    """Files in subfolders count; a missing path has size 0."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "one").write_bytes(bytes(3))
    (tmp_path / "folder" / "inner" / "two").write_bytes(bytes(4))
    assert files.size(tmp_path / "folder") == 7
    assert files.size(tmp_path / "none") == 0
