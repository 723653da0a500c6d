"""Disks that are full, read-only, forbidden, slow or moved, and clocks that are set back: a run ends with a one-line error, no
file is corrupted, and the run continues once the cause is fixed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

import toys
from cli.command_line import run_harness
from conftest import Lab, toy_file
from faults.bad_disk import FORBIDDEN, FULL, QUOTA, READ_ONLY, TOO_LARGE, BadDisk
from faults.rig import DIGITS, check_same, contents, events, in_process, run_here, some
from faults.rogue import METRICS
from harness import files
from harness.api.task import key_of
from harness.cli.run import run
from harness.errors import StoreError, UserError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store

KEY = key_of("one")
OTHER = key_of("other")
WEIGHTS = {"a": torch.arange(6.0)}
MESSAGES = {
    FULL: "no space left on the device; free some, or move the store and name its place with --store",
    QUOTA: "the disk quota is used up; free some",
    READ_ONLY: "the file system is read-only; choose another folder with --store",
    FORBIDDEN: "permission denied; choose another folder with --store",
    TOO_LARGE: "a file is larger than this process may write; raise the limit with `ulimit -f`",
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without faults."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_here(folder) == 0
    return folder


TROUBLES = [(FULL, 300), (FULL, 1), (QUOTA, 200), (READ_ONLY, 250), (FULL, 120), (FORBIDDEN, 160), (TOO_LARGE, 200)]


@pytest.mark.parametrize(("trouble", "at"), some(TROUBLES, 3))
def test_store_that_cannot_be_written(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, trouble: int, at: int
) -> None:
    """The run ends with a line that says why and what to do; once fixed, it continues and ends as one without faults."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(at, refuse=trouble, under=tmp_path / "store"))
        with pytest.raises(StoreError) as caught:
            run_here(tmp_path)
    message = str(caught.value)
    del caught  # its traceback refers to the run's store
    assert MESSAGES[trouble] in message
    assert "\n" not in message
    assert list(Store(tmp_path / "store").maintenance.find_corruption()) == []
    if at > 1:
        rows = read_rows(tmp_path / "out")
        assert set(rows["status"]) <= {"done", "missing"}
    assert run_here(tmp_path) == 0
    check_same(tmp_path, uninterrupted)


def test_disk_that_is_full_for_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with an error, and the earlier rows are unchanged."""
    assert run_here(tmp_path, methods=["deep"]) == 0
    before = (tmp_path / "out" / "results.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL, under=tmp_path / "out"))
        with pytest.raises(UserError, match=r"results\.csv: cannot be written: No space left on device"):
            run_here(tmp_path)
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_disk_that_is_full_for_the_record_of_a_failure(
    graph_of: Callable[..., Graph], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with an error; once there is space, the next run records the failure and fails the cells."""
    catalogue = toys.catalogue(("metric", METRICS["raises"]))
    graph = graph_of(catalogue, methods=["deep"], metrics=["raises", "ensemble_accuracy"])
    lab.store.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL, under=lab.store.root / "failures"))
        with pytest.raises(StoreError, match=MESSAGES[FULL]):
            lab.run(graph, catalogue)
    assert list(lab.store.maintenance.find_corruption()) == []
    assert set(read_rows(lab.out)["status"]) <= {"done", "missing"}
    [(key, message)] = lab.run(graph, catalogue).failures.items()
    assert "measure raised RuntimeError: not today" in message
    assert lab.store.failure(key) is not None


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing permission, or too many open files, is an error, but no damage of the object."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": WEIGHTS})
    for trouble, reason in (
        (errno.EACCES, "permission denied"),
        (errno.EMFILE, "too many open files; allow more"),
        (errno.ESTALE, r"the file system was mounted anew while in use \(stale file handle\); run the command again"),
    ):

        def refuse(*_: Any, trouble: int = trouble, **__: Any) -> int:
            raise OSError(trouble, os.strerror(trouble))

        with monkeypatch.context() as patch:
            disk = BadDisk()
            disk.open = refuse  # type: ignore[attr-defined]
            patch.setattr(files, "os", disk)
            for read in (store.has, store.meta, store.tensors, store.verify):
                with pytest.raises(StoreError, match=f"cannot be read: {reason}"):
                    read(KEY)
    assert store.damage_reason(KEY) == ""


def test_device_with_a_read_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is damaged."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": WEIGHTS})
    disk = BadDisk()

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    disk.open = fail  # type: ignore[attr-defined]
    monkeypatch.setattr(files, "os", disk)
    assert store.damage_reason(KEY) == "meta.json is unreadable (Input/output error)"
    assert not store.has(KEY)


def test_write_to_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that start meanwhile do not remove it as the rest of a dead writer."""
    slow = Store(tmp_path)
    slow.prepare()
    monkeypatch.setattr(files, "os", BadDisk(delay=0.05))
    thread = threading.Thread(target=slow.put, args=(KEY, {}, {f"p{i}": WEIGHTS for i in range(12)}))
    thread.start()
    starts = 0
    while thread.is_alive():
        Store(tmp_path).prepare()
        starts += 1
    thread.join()
    assert starts > 1
    assert slow.damage_reason(KEY) == ""


def test_store_at_another_path(tmp_path: Path, uninterrupted: Path) -> None:
    """No file of a store has its path, so nothing is computed again."""
    shutil.copytree(uninterrupted / "store", tmp_path / "elsewhere")
    assert run_here(tmp_path, tmp_path / "elsewhere") == 0
    assert events(tmp_path, "task_ended") == []
    assert (tmp_path / "out" / "results.csv").read_bytes() == (uninterrupted / "out" / "results.csv").read_bytes()


def test_store_that_is_moved_while_in_use(tmp_path: Path) -> None:
    """It is not created again at its old path, and the error says what happened."""
    store = Store(tmp_path / "store")
    store.put(KEY, {}, {})
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="it was moved or removed while in use; name its new place with --store"):
        store.put(OTHER, {}, {})
    assert not (tmp_path / "store").exists()
    assert list(Store(tmp_path / "moved").keys()) == [KEY]


def test_clock_that_is_set_back_to_1970(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The staging area of a dead writer is removed, those of living writers stay, and one key can be quarantined twice."""
    store = Store(tmp_path)
    other = Store(tmp_path)
    for writer in (store, other):
        writer.put(KEY, {}, {"weights": WEIGHTS})
    dead = tmp_path / "aside" / "deadbeef"
    dead.mkdir()
    (dead / "meta.json").write_text("{")
    for path in (tmp_path / "aside").rglob("*"):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    areas = staging_areas(tmp_path)
    assert len(areas) == 3
    store.prepare()
    assert staging_areas(tmp_path) == areas - {"deadbeef"}
    first = store.quarantine(KEY)
    store.put(KEY, {}, {})
    assert store.quarantine(KEY) != first


def staging_areas(root: Path) -> set[str]:
    """Return the names of the staging areas of a store."""
    return {path.name for path in (root / "aside").iterdir() if path.is_dir()}


def run_without_links(folder: Path) -> int:
    """Run the small benchmark where links cannot be created; the hook stays until the process ends."""

    def refuse_links(event: str, args: tuple[Any, ...]) -> None:
        if event in ("os.link", "os.symlink"):
            raise OSError(errno.EPERM, "Operation not permitted")

    sys.addaudithook(refuse_links)
    return run_here(folder)


def test_file_system_without_links_or_case(tmp_path: Path, uninterrupted: Path) -> None:
    """A run needs neither hard nor symbolic links, and all its names are in lower case."""
    process = in_process(run_without_links, tmp_path)
    process.join(120)
    assert process.exitcode == 0
    check_same(tmp_path, uninterrupted)
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert [name for name in names if name != name.casefold()] == []


# Real file systems and the command line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 KiB; skip the test if this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    """Change the mount options of a file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@pytest.mark.slow
@pytest.mark.faults
def test_really_full_under_a_runs_folder(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages are left for rows, board, events: a line or a warning, no file by half, and with room it is done."""
    monkeypatch.chdir(tmp_path)
    words = [str(toy_file(tmp_path, methods=["deep"])), "--workers", "1"]
    exit_codes = set()
    assert CliRunner().invoke(run, [*words, "--out", "whole", "--store", "alone"], obj=toys.catalogue()).exit_code == 0
    all_events = (tmp_path / "whole" / "events.jsonl").read_bytes()
    filler = small_disk / "filler"
    for pages in range(16):
        out = small_disk / str(pages)
        filler.write_bytes(bytes(4096 * (25 - pages)))
        done = CliRunner().invoke(run, [*words, "--out", str(out), "--store", str(pages)], obj=toys.catalogue())
        exit_codes.add(done.exit_code)
        if done.exit_code:
            assert isinstance(done.exception, UserError), done.exception
            assert "No space left on device; name a file in a folder that can be" in str(done.exception)
        elif len((out / "events.jsonl").read_bytes()) < len(all_events) - 200:
            assert "events.jsonl: events are missing: " in done.output
        if (out / "results.csv").exists():
            read_rows(out / "results.csv")
        if (out / "run.json").exists():
            json.loads((out / "run.json").read_text())
        assert list(out.glob(".*")) == []
        filler.unlink()
        done = CliRunner().invoke(run, [*words, "--out", str(out), "--store", str(pages)], obj=toys.catalogue())
        assert done.exit_code == 0, done.output
        assert "events are missing" not in done.output
        assert (out / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
        shutil.rmtree(out)
    assert exit_codes == {0, 1}


@pytest.mark.slow
@pytest.mark.faults
def test_full_and_read_only_file_system(tmp_path: Path, small_disk: Path) -> None:
    """On a file system of 100 KiB a run exits with 2 and prints the command to continue; once enlarged, the command continues;
    read-only, everything can still be read."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(DIGITS))
    done = run_harness("run", "small.yaml", "--store", small_disk / "store", cwd=tmp_path, code=2)
    assert "no space left on the device; free some" in done.stderr
    assert "To go on, once that is fixed:\n  harness run small.yaml --store" in done.stderr
    assert set(read_rows(tmp_path / "runs" / "small")["status"]) <= {"done", "missing"}
    remount(small_disk, "size=20m")
    assert list(Store(small_disk / "store").maintenance.find_corruption()) == []
    run_harness("run", "small.yaml", "--store", small_disk / "store", cwd=tmp_path, code=0)
    run_harness("run", "small.yaml", "--store", tmp_path / "fresh", "--out", "again", cwd=tmp_path, code=0)
    assert contents(Store(small_disk / "store")) == contents(Store(tmp_path / "fresh"))
    remount(small_disk, "ro")
    done = run_harness("run", "small.yaml", "--store", small_disk / "store", cwd=tmp_path, code=2)
    assert "cannot be used: the file system is read-only; choose another folder with --store" in done.stderr
    key = next(iter(Store(small_disk / "store").keys()))
    for command in (["store", "verify"], ["store", "du"], ["explain", key]):
        run_harness(*command, "--store", small_disk / "store", cwd=tmp_path, code=0)
    assert "(" not in run_harness("members", "runs/small", cwd=tmp_path, code=0).stdout
    remount(small_disk, "rw")
