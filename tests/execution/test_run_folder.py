"""The folder of a run: which paths are allowed, and that one run at a time has its lock."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.execution.run_folder import FILES, check_places, open_folder

HOLDER = """
import sys, time
from pathlib import Path
from harness.execution.run_folder import open_folder
with open_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(out: str, store: str = "runs/store", data: str = "data", named: str = "") -> str:
    """Return the error for some paths, or an empty string if they are allowed."""
    try:
        check_places(Path(out), Path(store), Path(data), named=named)
    except UserError as error:
        return str(error)
    return ""


def test_published_bundle(tmp_path: Path) -> None:
    """A run does not overwrite the files of a bundle, nor add any."""
    for name in ("digests.json", "benchmark.json", "results.csv"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError) as error, open_folder(tmp_path):
        raise AssertionError("the folder was opened")
    expected = f"--out {tmp_path}: is a published bundle, whose files a run would overwrite; choose another folder"
    assert str(error.value) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.json", "digests.json", "results.csv"]


# Paths


def test_paths_that_are_allowed(here: Path) -> None:
    """The store and the data may be in other folders or in the run's folder; nothing is created."""
    assert refusal("runs/paper") == ""
    assert refusal("out", store="out/store", data="out/data") == ""
    assert refusal("runs") == ""
    assert refusal("data/runs/mine") == ""
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["store", "Store", "STORE"])
def test_benchmark_with_the_name_of_the_store(here: Path, name: str) -> None:
    """It is refused also if the names differ in case, since some file systems ignore case."""
    assert refusal(f"runs/{name}", named=name) == (
        f"name '{name}': its folder runs/{name} is the store's folder runs/store; "
        "choose another folder with --out, or another name"
    )


@pytest.mark.parametrize(
    ("out", "store", "problem"),
    [
        ("st", "st", "--out st is the store's folder st"),
        ("st/", "./st", "--out st is the store's folder st"),
        ("a/../st", "st", "--out a/../st is the store's folder st"),
        ("st/objects", "st", "--out st/objects lies in the store st"),
        ("ST/objects/ab", "st", "--out ST/objects/ab lies in the store st"),
        ("link/mine", "st", "--out link/mine lies in the store st"),
        ("st", "link", "--out st is the store's folder link"),
        ("stra\u00dfe", "STRASSE", "--out stra\u00dfe is the store's folder STRASSE"),
        ("caf\u00e9", "cafe\u0301", "--out caf\u00e9 is the store's folder cafe\u0301"),
    ],
)
def test_folder_in_the_store(here: Path, out: str, store: str, problem: str) -> None:
    """It is refused however the path is written, and also through a link."""
    (here / "link").symlink_to(here / "st")
    assert refusal(out, store) == f"{problem}; choose another folder with --out"


def test_folder_in_another_store(here: Path) -> None:
    """A folder in a store that this run does not use is refused too."""
    for name in ("objects", "trajectories", "tasks"):
        (here / "runs" / "store" / name).mkdir(parents=True)
    real = here.resolve() / "runs" / "store"
    assert refusal("runs/store", store="elsewhere", named="store") == (
        f"name 'store': its folder runs/store is the store's folder {real}; choose another folder with --out, or another name"
    )
    assert refusal("runs/store/objects/x", store="elsewhere") == (
        f"--out runs/store/objects/x lies in the store {real}; choose another folder with --out"
    )


def test_store_in_another_store(here: Path) -> None:
    """It is refused, since its objects would belong to the outer store."""
    for name in ("objects", "trajectories", "tasks"):
        (here / "st" / name).mkdir(parents=True)
    problem = f"lies in the store {here.resolve() / 'st'}; choose another folder with --store"
    assert refusal("out", store="st/objects") == f"--store st/objects: {problem}"
    assert refusal("out", store="st/mine/deep") == f"--store st/mine/deep: {problem}"
    assert refusal("out", store="st") == ""


@pytest.mark.parametrize("name", [*FILES, "earlier-1", "earlier-12", "Results.csv", "EARLIER-3", ".run.lock", ".run.owner"])
@pytest.mark.parametrize("rest", ["", "/deeper"])
def test_store_or_data_with_the_name_of_a_file_of_the_run(here: Path, name: str, rest: str) -> None:
    """It is refused, since the run would write or move it."""
    problem = f"'{name.lower()}' in out is the name of a run's own file or folder"
    assert refusal("out", store=f"out/{name}{rest}") == (
        f"--store out/{name}{rest}: {problem}; choose another folder with --store"
    )
    assert refusal("out", data=f"out/{name}{rest}") == f"--data out/{name}{rest}: {problem}; choose another folder with --data"


def test_store_with_a_similar_name(here: Path) -> None:
    """It is allowed."""
    for name in ("earlier-", "earlier-one", "earlier", "my-results.csv", "store"):
        assert refusal("out", store=f"out/{name}") == ""


def test_folder_that_is_the_data_root(here: Path) -> None:
    """It is refused, also if the names differ in case."""
    assert refusal("Data") == "--out Data is the data root data; choose another folder with --out"


# One run at a time


def test_run_that_has_ended(here: Path) -> None:
    """Neither its lock nor the description of its owner is left."""
    with open_folder(here / "out"):
        assert (here / "out" / ".run.lock").exists()
    assert [path.name for path in (here / "out").iterdir()] == ["events.jsonl"]


def test_second_run_in_a_folder(here: Path) -> None:
    """The error names the process of the first run, and what jobs of an array should do."""
    out = Path("out")
    with open_folder(out):
        owner = json.loads((out / ".run.owner").read_text())
        with pytest.raises(UserError) as error, open_folder(out):
            pass
    assert owner["pid"] == os.getpid()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", owner["since"])
    assert str(error.value) == (
        f"out: another run (process {os.getpid()} on {owner['host']}, since {owner['since']}) is writing there; wait until it "
        "has ended, or choose another folder with --out; of an array of jobs all but the first are refused: give each a folder "
        "of its own, such as --out 'out-'$SLURM_ARRAY_TASK_ID"
    )
    with open_folder(out):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\xff"])
def test_second_run_with_an_unreadable_owner(here: Path, content: str) -> None:
    """The error does not name the first run."""
    with open_folder(here):
        (here / ".run.owner").write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r": another run is writing there; wait until it has ended"), open_folder(here):
            pass


def test_run_that_is_killed(here: Path) -> None:
    """Its lock is free at once, though its files are left; while it runs, a second run is refused."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, "out"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"^out: another run \(process {process.pid} on "), open_folder(Path("out")):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (here / "out" / ".run.owner").exists()
    with open_folder(Path("out")):
        pass
    assert [path.name for path in (here / "out").iterdir()] == ["events.jsonl"]


def test_file_system_without_locks(here: Path) -> None:
    """Runs are not refused; here the lock's name is that of a folder, which cannot be locked."""
    (here / "out" / ".run.lock").mkdir(parents=True)
    with open_folder(here / "out"), open_folder(here / "out"):
        pass
    assert {path.name for path in (here / "out").iterdir()} == {"events.jsonl", ".run.lock"}


@pytest.mark.parametrize("name", ["results.csv", "events.jsonl", "report.html"])
def test_folder_or_pipe_with_the_name_of_a_file_of_the_run(here: Path, name: str) -> None:
    """The run is refused before anything is trained; opening a pipe would wait for ever."""
    for make, what in ((Path.mkdir, "a folder"), (os.mkfifo, "a pipe or socket")):
        out = Path(what.split()[1])
        out.mkdir()
        make(out / name)
        problem = f"^--out {out}: {name} there is {what}, and a run writes a file of that name; choose another folder$"
        with pytest.raises(UserError, match=problem), open_folder(out):
            pass


def test_folder_that_cannot_be_created(here: Path) -> None:
    """A path that is a file, or leads through one, is refused."""
    (here / "file").touch()
    with (
        pytest.raises(UserError, match=r"^--out file: cannot be written: .*; choose another folder$"),
        open_folder(Path("file")),
    ):
        pass
    with pytest.raises(UserError, match=r"^--out file/x: cannot be written: "), open_folder(Path("file/x")):
        pass


def test_partial_folders_of_killed_runs(here: Path) -> None:
    """A partial folder that is an hour old is removed; a new one and a folder with another name stay."""
    old = ".earlier-0123456789abcdef.part"
    new = ".earlier-fedcba9876543210.part"
    other = ".earlier-mine.part"
    for name in (old, new, other):
        (here / name).mkdir()
        (here / name / "results.csv").touch()
    past = time.time() - 3600
    os.utime(here / old, (past, past))
    with open_folder(here):
        pass
    assert {path.name for path in here.glob(".*")} == {new, other}
