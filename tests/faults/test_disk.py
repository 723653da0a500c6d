"""Disks as they are: full, read-only, forbidden, slow, moved, with a clock that goes back. A clear line, nothing corrupted, and
the run goes on when the trouble is fixed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
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
from cli.command_line import FILE, run_harness
from conftest import Lab, toy_file
from faults.bad_disk import FORBIDDEN, FULL, QUOTA, READ_ONLY, BadDisk
from faults.rig import check_same, contents, events, run_here, some
from faults.rogue import METRICS
from harness import files
from harness.api.task import key_of
from harness.cli.run import run
from harness.errors import StoreError, UserError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store

KEY, OTHER = key_of("one"), key_of("other")
WEIGHTS = {"a": torch.arange(6.0)}
SAID = {
    FULL: "no space left on the device; free some, or move the store and name its place with --store",
    QUOTA: "the disk quota is used up; free some",
    READ_ONLY: "the file system is read-only; choose another folder with --store",
    FORBIDDEN: "permission denied; choose another folder with --store",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_here(folder) == 0
    return folder


TROUBLES = [(FULL, 300), (FULL, 1), (QUOTA, 200), (READ_ONLY, 250), (FULL, 120), (FORBIDDEN, 160)]


@pytest.mark.parametrize(("trouble", "at"), some(TROUBLES, 3))
def test_disk_that_takes_no_more_stops_the_run_in_a_line(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, trouble: int, at: int
) -> None:
    """The run ends with the reason and what to do; what was done stays, the rows are whole, and fixed it goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(at, refuse=trouble, under=tmp_path / "store"))
        with pytest.raises(StoreError) as caught:
            run_here(tmp_path)
    said = str(caught.value)
    del caught  # it holds the run's store by its traceback
    assert SAID[trouble] in said
    assert "\n" not in said
    assert list(Store(tmp_path / "store").maintenance.find_corruption()) == []
    if at > 1:
        main = read_rows(tmp_path / "out")
        assert set(main["status"]) <= {"done", "missing"}
    assert run_here(tmp_path) == 0
    check_same(tmp_path, undisturbed)


def test_full_disk_under_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the rows have no room the run stops as well, and the rows that were there stay whole."""
    assert run_here(tmp_path, methods=["deep"]) == 0
    before = (tmp_path / "out" / "results.csv").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL, under=tmp_path / "out"))
        with pytest.raises(UserError, match=r"results\.csv: cannot be written: No space left on device"):
            run_here(tmp_path)
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_full_disk_under_the_record_of_a_failure(
    graph_of: Callable[..., Graph], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room to keep why a task failed, the run stops in a line; with room, it fails its cells as ever."""
    catalogue = toys.catalogue(("metric", METRICS["raises"]))
    graph = graph_of(catalogue, methods=["deep"], metrics=["raises", "ensemble_accuracy"])
    lab.store.prepare()

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL, under=lab.store.root / "failures"))
        with pytest.raises(StoreError, match=SAID[FULL]):
            lab.run(graph, catalogue)
    assert list(lab.store.maintenance.find_corruption()) == []
    assert set(read_rows(lab.out)["status"]) <= {"done", "missing"}
    [(key, message)] = lab.run(graph, catalogue).failures.items()
    assert "measure raised RuntimeError: not today" in message
    assert lab.store.failure(key)


def test_what_may_not_be_read_is_not_taken_for_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not read, or no memory to open it, is a line; the object stays where it is."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": WEIGHTS})
    for trouble, said in ((errno.EACCES, "permission denied"), (errno.EMFILE, "too many open files; allow more")):

        def refuse(*_: Any, trouble: int = trouble, **__: Any) -> int:
            raise OSError(trouble, os.strerror(trouble))

        with monkeypatch.context() as patch:
            shim = BadDisk()
            shim.open = refuse  # type: ignore[attr-defined]
            patch.setattr(files, "os", shim)
            for read in (store.has, store.meta, store.tensors, store.verify):
                with pytest.raises(StoreError, match=f"cannot be read: {said}"):
                    read(KEY)
    assert store.damage(KEY) == ""


def test_failing_sector_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device cannot give back is lost: the object counts as damaged."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": WEIGHTS})
    shim = BadDisk()

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    shim.open = fail  # type: ignore[attr-defined]
    monkeypatch.setattr(files, "os", shim)
    assert store.damage(KEY) == "meta.json is unreadable (Input/output error)"
    assert not store.has(KEY)


def test_slow_disk_loses_nothing_to_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to write is not swept away as a dead writer's by runs that begin meanwhile."""
    slow = Store(tmp_path)
    slow.prepare()
    monkeypatch.setattr(files, "os", BadDisk(delay=0.05))
    thread = threading.Thread(target=slow.put, args=(KEY, {}, {f"p{i}": WEIGHTS for i in range(12)}))
    thread.start()
    sweeps = 0
    while thread.is_alive():
        Store(tmp_path).prepare()
        sweeps += 1
    thread.join()
    assert sweeps > 1
    assert slow.damage(KEY) == ""


def test_moved_store_is_found_again(tmp_path: Path, undisturbed: Path) -> None:
    """Nothing in a store says where it lies: at another path nothing is computed again."""
    shutil.copytree(undisturbed / "store", tmp_path / "elsewhere")
    assert run_here(tmp_path, tmp_path / "elsewhere") == 0
    assert events(tmp_path, "task_ended") == []
    assert (tmp_path / "out" / "results.csv").read_bytes() == (undisturbed / "out" / "results.csv").read_bytes()


def test_store_that_is_moved_while_in_use(tmp_path: Path) -> None:
    """It is not made anew where it was: a line says what happened."""
    store = Store(tmp_path / "store")
    store.put(KEY, {}, {})
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="it was moved or removed while in use; name its new place with --store"):
        store.put(OTHER, {}, {})
    assert not (tmp_path / "store").exists()
    assert list(Store(tmp_path / "moved").keys()) == [KEY]


def test_clock_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock set back to 1970 and files from the future, dead writers' rests are swept, living ones' are not, and two
    objects of one key can be set aside."""
    store, other = Store(tmp_path), Store(tmp_path)
    for at_work in (store, other):
        at_work.put(KEY, {}, {"weights": WEIGHTS})
    rest = tmp_path / "aside" / "deadbeef"
    rest.mkdir()
    (rest / "meta.json").write_text("{")
    for path in (tmp_path / "aside").rglob("*"):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    places = {path.name for path in (tmp_path / "aside").iterdir() if path.is_dir()} - {"deadbeef"}
    store.prepare()
    assert {path.name for path in (tmp_path / "aside").iterdir() if path.is_dir()} == places
    first = store.quarantine(KEY)
    store.put(KEY, {}, {})
    assert store.quarantine(KEY) != first


def test_nothing_needs_links_or_case(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hard link and no symbolic one is made, and no two names differ by case alone: any file system will do."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    assert run_here(tmp_path) == 0
    check_same(tmp_path, undisturbed)
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name == name.casefold() for name in names)


# Real file systems, through the command line

ONE_METHOD = {**FILE, "methods": ["deep"], "metrics": ["ensemble_accuracy"]}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 KiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@pytest.mark.slow
@pytest.mark.faults
def test_really_full_under_a_runs_folder(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages are left for rows, board, events: a line or a warning, no file by half, and with room it is done."""
    monkeypatch.chdir(tmp_path)
    words, ends = [str(toy_file(tmp_path, methods=["deep"])), "--workers", "1"], []
    assert CliRunner().invoke(run, [*words, "--out", "whole", "--store", "alone"], obj=toys.catalogue()).exit_code == 0
    for pages in range(16):
        out, filler = small_disk / str(pages), small_disk / "filler"
        filler.write_bytes(bytes(4096 * (25 - pages)))
        done = CliRunner().invoke(run, [*words, "--out", str(out), "--store", str(pages)], obj=toys.catalogue())
        ends.append(done.exit_code)
        if done.exit_code:
            assert isinstance(done.exception, UserError), done.exception
            assert "No space left on device; name a file in a folder that can be" in str(done.exception)
        elif len((out / "events.jsonl").read_bytes()) < len((tmp_path / "whole" / "events.jsonl").read_bytes()) - 200:
            assert "events.jsonl: events are missing: " in done.output
        for name, read in (("results.csv", read_rows), ("run.json", lambda path: json.loads(path.read_text()))):
            if (out / name).exists():
                read(out / name)
        assert list(out.glob(".*")) == []
        filler.unlink()
        done = CliRunner().invoke(run, [*words, "--out", str(out), "--store", str(pages)], obj=toys.catalogue())
        assert done.exit_code == 0, done.output
        assert "events are missing" not in done.output
        assert (out / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
        shutil.rmtree(out)
    assert {0, 1} == set(ends)


@pytest.mark.slow
@pytest.mark.faults
def test_really_full_and_really_read_only(tmp_path: Path, small_disk: Path) -> None:
    """On a file system of 100 KiB a run ends in a line with exit code 2 and says how to go on; enlarged, it goes on; read-only,
    everything in it can still be read."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(ONE_METHOD))
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
    said = run_harness("run", "small.yaml", "--store", small_disk / "store", cwd=tmp_path, code=2).stderr
    assert "cannot be used: the file system is read-only; choose another folder with --store" in said
    key = next(iter(Store(small_disk / "store").keys()))
    for command in (["store", "verify"], ["store", "du"], ["explain", key]):
        run_harness(*command, "--store", small_disk / "store", cwd=tmp_path, code=0)
    assert "(" not in run_harness("members", "runs/small", cwd=tmp_path, code=0).stdout
    remount(small_disk, "rw")
