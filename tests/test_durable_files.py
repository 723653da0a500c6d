"""`harness.files`: files are written whole or not at all, and read only if they are files."""

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
    """The message says what to do, and nothing is left beside the file."""
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
    """Whatever operation it happens at, with what was not synced lost."""
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


@pytest.mark.parametrize("place", ["nowhere/board.md", "file/board.md", "folder"])
def test_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    """No such folder, a file in place of a folder, a folder in place of a file."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r": cannot be written: .*; name a file in a folder that can be"):
        write_atomically(tmp_path / place, "text")


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    """A picture is not text."""
    write_atomically(tmp_path / "picture", b"\x89PNG\r\n\xff")
    assert (tmp_path / "picture").read_bytes() == b"\x89PNG\r\n\xff"


def test_half_a_surrogate_pair_is_escaped(tmp_path: Path) -> None:
    """A file name that is no text must not make a report impossible."""
    write_atomically(tmp_path / "page", "caf\xe9 \ud800")
    assert (tmp_path / "page").read_bytes() == b"caf\xc3\xa9 \\ud800"


def test_link_is_followed(tmp_path: Path) -> None:
    """The file that the link names changes; the link stays."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    write_atomically(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"


def test_pipe_is_written_into(tmp_path: Path) -> None:
    """A pipe or a device is not replaced by a file: `--out /dev/stdout` works."""
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
    """Results are for sharing: no private mode left over from a temporary file."""
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "written", "text")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_existing_file_is_not_written_over(tmp_path: Path) -> None:
    """`write_file` writes new files only."""
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileExistsError):
        files.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_large_file_is_refused(tmp_path: Path) -> None:
    """It is refused by its size, before it is read."""
    (tmp_path / "file").write_bytes(bytes(11))
    assert files.read(tmp_path / "file", 11) == bytes(11)
    with pytest.raises(OSError, match="not a file of at most 10 bytes"):
        files.read(tmp_path / "file", 10)


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    """Removing a folder leaves alone what links in it lead to."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path)
    files.remove(tmp_path / "folder")
    files.remove(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_folder_that_is_none_is_empty(tmp_path: Path) -> None:
    """Neither a missing folder nor a file has entries."""
    (tmp_path / "file").touch()
    assert files.list_folder(tmp_path / "none") == []
    assert files.list_folder(tmp_path / "file") == []
    assert files.list_folder(tmp_path) == [tmp_path / "file"]


def test_size_is_of_all_files(tmp_path: Path) -> None:
    """Those in folders count; what is not there counts nothing."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "one").write_bytes(bytes(3))
    (tmp_path / "folder" / "inner" / "two").write_bytes(bytes(4))
    assert files.size(tmp_path / "folder") == 7
    assert files.size(tmp_path / "none") == 0
