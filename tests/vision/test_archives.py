"""Archives on disk and from the net: what is taken from them, what stays behind, what the user reads when it goes wrong."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness import DataError
from harness_vision import archives
from harness_vision.archives import Archive, alone, provide, read_checked

CONTENT = {
    "things/a.txt": b"a",
    "things/sub/b.txt": b"b",
    "things/unwanted.txt": b"u",
    "../things/a.txt": b"evil",
    "/things/a.txt": b"evil",
    "things/sub/../../../evil.txt": b"evil",
    "other/a.txt": b"evil",
}


def tar(path: Path) -> bytes:
    with tarfile.open(path, "w:gz") as file:
        for name, content in CONTENT.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("things/sub/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return path.read_bytes()


def zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.mkdir("things")
        for name, content in CONTENT.items():
            file.writestr(name, content)
    return path.read_bytes()


def archive(content: bytes, filename: str) -> Archive:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    wanted = re.compile(r"things/(sub/)?(a|b|link)\.txt")
    return Archive(filename, f"https://example.org/{filename}", md5, "things", wanted)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    """Let the network answer every request with this content; return the list of what was asked for."""
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        assert 0 < timeout <= 30
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


@pytest.mark.parametrize(("make", "filename"), [(tar, "things.tar.gz"), (zipped, "things.zip")])
def test_unpacks_what_is_wanted(tmp_path: Path, make: Callable[[Path], bytes], filename: str) -> None:
    """Wanted regular files only; nothing outside the folder, no link, nothing left over."""
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    packed = make(root / filename)
    assert provide(archive(packed, filename), root) == root / "things"
    assert tree(tmp_path) == {
        f"deep/root/{filename}": packed,
        "deep/root/things/a.txt": b"a",
        "deep/root/things/sub/b.txt": b"b",
    }


def test_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    """No archive is looked for, and nothing is written: a read-only root will do."""
    (tmp_path / "things").mkdir()
    provide(archive(b"", "things.zip"), tmp_path)
    assert tree(tmp_path) == {}


def test_archive_with_another_md5(tmp_path: Path) -> None:
    """It is not opened; the message names file, md5 found and expected, and what to do."""
    (tmp_path / "things.zip").write_bytes(b"half a file")
    wanted = archive(b"whole", "things.zip")
    found = hashlib.md5(b"half a file", usedforsecurity=False).hexdigest()
    assert refusal(provide, wanted, tmp_path) == (
        f"{tmp_path / 'things.zip'}: damaged or not the published file: md5 {found}, expected {wanted.md5}; remove it and "
        f"put things.zip (md5 {wanted.md5}) from https://example.org/things.zip into {tmp_path}"
    )
    assert list(tree(tmp_path)) == ["things.zip"]


def test_nothing_there_and_no_network(tmp_path: Path) -> None:
    """One line: what is missing, why it could not be fetched, which file from where to put where."""
    wanted, root = archive(b"whole", "things.zip"), tmp_path / "new"
    assert refusal(provide, wanted, root) == (
        f"{root / 'things'}: not there, and the download failed (no network in tests); "
        f"put things.zip (md5 {wanted.md5}) from https://example.org/things.zip into {root}"
    )
    assert list(root.iterdir()) == []


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Fetched once, verified, kept, unpacked, and announced."""
    content = tar(tmp_path / "made.tar.gz")
    asked, wanted, root = serve(monkeypatch, content), archive(content, "things.tar.gz"), tmp_path / "new" / "root"
    provide(wanted, root)
    provide(wanted, root)
    assert asked == [wanted.url]
    assert set(tree(root)) == {"things.tar.gz", "things/a.txt", "things/sub/b.txt"}
    assert caplog.messages == [f"downloading {wanted.url} to {root}"]


def test_download_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTML page in the archive's place is not kept."""
    serve(monkeypatch, b"<html>please log in</html>")
    message = refusal(provide, archive(b"whole", "things.zip"), tmp_path)
    assert "https://example.org/things.zip served something else; put things.zip" in message
    assert tree(tmp_path) == {}


def test_download_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it stays."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise TimeoutError("The read operation timed out")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Broken())
    message = refusal(provide, archive(b"whole", "things.zip"), tmp_path)
    assert "the download failed (The read operation timed out); put things.zip" in message
    assert list(tmp_path.iterdir()) == []


def test_archive_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """A file that is what was published but no archive, or a full disk: said in a line, and nothing stays."""
    (tmp_path / "things.zip").write_bytes(b"no zip")
    assert refusal(provide, archive(b"no zip", "things.zip"), tmp_path) == (
        f"{tmp_path / 'things.zip'}: cannot be unpacked into {tmp_path} (File is not a zip file); "
        f"unpack it by hand, so that {tmp_path / 'things'} is there"
    )
    assert list(tree(tmp_path)) == ["things.zip"]


def test_root_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive in a read-only root: the message says what would help."""
    packed = zipped(tmp_path / "things.zip")

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(archives.tempfile, "TemporaryDirectory", refuse)
    message = refusal(provide, archive(packed, "things.zip"), tmp_path)
    assert f"cannot be unpacked into {tmp_path} ([Errno 13] Permission denied: '{tmp_path}'); unpack it by hand" in message


def test_root_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's reason, with the path."""

    def refuse(_: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert refusal(provide, archive(b"", "a.zip"), tmp_path) == f"{tmp_path / 'things'}: cannot be read: Permission denied"


def test_root_that_is_a_file(tmp_path: Path) -> None:
    """It is no folder."""
    root = tmp_path / "root"
    root.write_text("")
    expected = f"{root}: the data root is not a folder; choose another with --data or HARNESS_DATA"
    assert refusal(provide, archive(b"", "a.zip"), root) == expected


def test_read_checked(tmp_path: Path) -> None:
    """The bytes come back only if they have the md5; a missing file says so, with the advice."""
    path = tmp_path / "x"
    advice = "get it again"
    assert refusal(read_checked, path, "0", advice) == f"{path}: cannot be read: No such file or directory; get it again"
    path.write_bytes(b"abc")
    assert read_checked(path, "900150983cd24fb0d6963f7d28e17f72", advice) == b"abc"
    assert refusal(read_checked, path, "0", advice) == (
        f"{path}: damaged or not the published file: md5 900150983cd24fb0d6963f7d28e17f72, expected 0; get it again"
    )


def test_two_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits, and finds what the first has made."""
    content = tar(tmp_path / "made.tar.gz")
    asked, wanted, root = serve(monkeypatch, content), archive(content, "things.tar.gz"), tmp_path / "root"
    threads = [threading.Thread(target=provide, args=(wanted, root)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert sorted(path.name for path in root.iterdir()) == ["things", "things.tar.gz"]


def test_folder_made_by_another_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock two may unpack; the one that comes late takes the other's."""
    packed = zipped(tmp_path / "things.zip")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "theirs").touch()
    archives.unpack(archive(packed, "things.zip"), tmp_path)
    assert set(tree(tmp_path)) == {"things.zip", "things/theirs"}


def test_no_lock_to_be_had(tmp_path: Path) -> None:
    """Where no lock file can be made, work goes on."""
    (tmp_path / "file").touch()
    with alone(tmp_path / "file", "x"):
        pass
