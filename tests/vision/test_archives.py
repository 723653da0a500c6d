"""Archives from disk and from the network: what is unpacked, what is not, and the messages when something fails."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import DataError
from harness_vision.archives import Archive, exclusive_lock, provide, read_checked, unpack

CONTENT = {
    "things/a.txt": b"a",
    "things/sub/b.txt": b"b",
    "things/unwanted.txt": b"u",
    "../things/a.txt": b"evil",
    "/things/a.txt": b"evil",
    "things/sub/../../../evil.txt": b"evil",
    "other/a.txt": b"evil",
}


def write_tar(path: Path) -> bytes:
    """Write a tar archive of `CONTENT` and a symbolic link, and return its bytes."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in CONTENT.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("things/sub/link.txt")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        file.addfile(link)
    return path.read_bytes()


def write_zip(path: Path) -> bytes:
    """Write a zip archive of `CONTENT`, and return its bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.mkdir("things")
        for name, content in CONTENT.items():
            file.writestr(name, content)
    return path.read_bytes()


def archive_of(content: bytes, filename: str) -> Archive:
    """Return the description of an archive with these bytes."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    members = re.compile(r"things/(sub/)?(a|b|link)\.txt")
    return Archive(filename, f"https://example.org/{filename}", md5, "things", members)


def files_under(folder: Path) -> dict[str, bytes]:
    """Return the content of all files under a folder by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_of(function: Callable[..., Any], *arguments: Any) -> str:
    """Return the message, one line, of the `DataError` that a call raises."""
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    """Let the network answer every request with this content; return the list of requested URLs."""
    requested: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        assert 0 < timeout <= 30
        requested.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return requested


@pytest.mark.parametrize(("write", "filename"), [(write_tar, "things.tar.gz"), (write_zip, "things.zip")])
def test_hostile_archive(tmp_path: Path, write: Callable[[Path], bytes], filename: str) -> None:
    """Only expected regular files are unpacked: nothing outside the folder, no link, no temporary file."""
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    packed = write(root / filename)
    assert provide(archive_of(packed, filename), root) == root / "things"
    assert files_under(tmp_path) == {
        f"deep/root/{filename}": packed,
        "deep/root/things/a.txt": b"a",
        "deep/root/things/sub/b.txt": b"b",
    }


def test_existing_folder(tmp_path: Path) -> None:
    """It is used without an archive, and nothing is written: a read-only root is enough."""
    (tmp_path / "things").mkdir()
    provide(archive_of(b"", "things.zip"), tmp_path)
    assert files_under(tmp_path) == {}


def test_archive_with_another_md5(tmp_path: Path) -> None:
    """It is not opened; the message names the file, both md5 sums and the next step."""
    (tmp_path / "things.zip").write_bytes(b"half a file")
    archive = archive_of(b"whole", "things.zip")
    found = hashlib.md5(b"half a file", usedforsecurity=False).hexdigest()
    assert error_of(provide, archive, tmp_path) == (
        f"{tmp_path / 'things.zip'}: damaged or not the published file: md5 {found}, expected {archive.md5}; remove it and "
        f"put things.zip (md5 {archive.md5}) from https://example.org/things.zip into {tmp_path}"
    )
    assert list(files_under(tmp_path)) == ["things.zip"]


def test_no_archive_and_no_network(tmp_path: Path) -> None:
    """The message, one line, says what is missing, why the download failed, and which file to put where."""
    archive = archive_of(b"whole", "things.zip")
    root = tmp_path / "new"
    assert error_of(provide, archive, root) == (
        f"{root / 'things'}: not there, and the download failed (no network in tests); "
        f"put things.zip (md5 {archive.md5}) from https://example.org/things.zip into {root}"
    )
    assert list(root.iterdir()) == []


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The archive is downloaded once, logged, verified, kept and unpacked."""
    content = write_tar(tmp_path / "made.tar.gz")
    requested = serve(monkeypatch, content)
    archive = archive_of(content, "things.tar.gz")
    root = tmp_path / "new" / "root"
    provide(archive, root)
    provide(archive, root)
    assert requested == [archive.url]
    assert set(files_under(root)) == {"things.tar.gz", "things/a.txt", "things/sub/b.txt"}
    assert caplog.messages == [f"downloading {archive.url} to {root}"]


def test_download_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTML page instead of the archive is not kept."""
    serve(monkeypatch, b"<html>please log in</html>")
    message = error_of(provide, archive_of(b"whole", "things.zip"), tmp_path)
    assert "https://example.org/things.zip served something else; put things.zip" in message
    assert files_under(tmp_path) == {}


def test_interrupted_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message gives the reason, and no partial file stays."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise TimeoutError("The read operation timed out")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Broken())
    message = error_of(provide, archive_of(b"whole", "things.zip"), tmp_path)
    assert "the download failed (The read operation timed out); put things.zip" in message
    assert list(tmp_path.iterdir()) == []


def test_archive_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """The message gives the reason and the next step, and no partial folder stays."""
    (tmp_path / "things.zip").write_bytes(b"no zip")
    assert error_of(provide, archive_of(b"no zip", "things.zip"), tmp_path) == (
        f"{tmp_path / 'things.zip'}: cannot be unpacked into {tmp_path} (File is not a zip file); "
        f"unpack it by hand, so that {tmp_path / 'things'} is there"
    )
    assert list(files_under(tmp_path)) == ["things.zip"]


def test_root_where_no_temporary_folder_can_be_made(tmp_path: Path) -> None:
    """The message gives the system's reason (here, a name that is too long) and the next step."""
    packed = write_zip(tmp_path / "things.zip")
    archive = replace(archive_of(packed, "things.zip"), folder="x" * 250)
    message = error_of(provide, archive, tmp_path)
    assert message.startswith(f"{tmp_path / 'things.zip'}: cannot be unpacked into {tmp_path} ([Errno 36] File name too long: ")
    assert message.endswith(f"unpack it by hand, so that {tmp_path / archive.folder} is there")
    assert list(files_under(tmp_path)) == ["things.zip"]


def test_root_that_cannot_be_read(tmp_path: Path) -> None:
    """The message gives the path and the system's reason (here, a name that is too long)."""
    root = tmp_path / ("x" * 300)
    assert error_of(provide, archive_of(b"", "a.zip"), root) == f"{root / 'things'}: cannot be read: File name too long"


def test_root_that_is_a_file(tmp_path: Path) -> None:
    """The message says how to choose another root."""
    root = tmp_path / "root"
    root.write_text("")
    expected = f"{root}: the data root is not a folder; choose another with --data or HARNESS_DATA"
    assert error_of(provide, archive_of(b"", "a.zip"), root) == expected


def test_read_checked(tmp_path: Path) -> None:
    """Bytes are returned only if they have the md5; messages about missing and damaged files end with the advice."""
    path = tmp_path / "x"
    advice = "get it again"
    assert error_of(read_checked, path, "0", advice) == f"{path}: cannot be read: No such file or directory; get it again"
    path.write_bytes(b"abc")
    assert read_checked(path, "900150983cd24fb0d6963f7d28e17f72", advice) == b"abc"
    assert error_of(read_checked, path, "0", advice) == (
        f"{path}: damaged or not the published file: md5 900150983cd24fb0d6963f7d28e17f72, expected 0; get it again"
    )


def test_concurrent_calls_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait, and find the folder that the first has made."""
    content = write_tar(tmp_path / "made.tar.gz")
    requested = serve(monkeypatch, content)
    archive = archive_of(content, "things.tar.gz")
    root = tmp_path / "root"
    threads = [threading.Thread(target=provide, args=(archive, root)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(requested) == 1
    assert sorted(path.name for path in root.iterdir()) == ["things", "things.tar.gz"]


def test_folder_made_by_another_process_meanwhile(tmp_path: Path) -> None:
    """Without a lock two processes may unpack; the later one keeps the folder of the other."""
    packed = write_zip(tmp_path / "things.zip")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "theirs").touch()
    unpack(archive_of(packed, "things.zip"), tmp_path)
    assert set(files_under(tmp_path)) == {"things.zip", "things/theirs"}


def test_lock_that_cannot_be_created(tmp_path: Path) -> None:
    """The block runs without a lock."""
    (tmp_path / "file").touch()
    with exclusive_lock(tmp_path / "file", "x"):
        pass
