"""Where a run's folder may lie, and that one run at a time holds it."""

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
    """Return what is said of some places, or nothing if they are allowed."""
    try:
        check_places(Path(out), Path(store), Path(data), named=named)
    except UserError as error:
        return str(error)
    return ""


# Places


def test_the_usual_places(here: Path) -> None:
    """Rows, objects and data in folders of their own, or objects and data beneath the rows."""
    assert refusal("runs/paper") == ""
    assert refusal("out", store="out/store", data="out/data") == ""
    assert refusal("runs") == ""
    assert refusal("data/runs/mine") == ""
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["store", "Store", "STORE"])
def test_a_benchmark_called_like_the_store(here: Path, name: str) -> None:
    """Its folder would be the store's, at least where case does not count."""
    remedy = "choose another folder with --out, or another name"
    assert (
        refusal(f"runs/{name}", named=name)
        == f"name '{name}': its folder runs/{name} is the store's folder runs/store; {remedy}"
    )


@pytest.mark.parametrize(
    ("out", "store", "told"),
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
def test_a_folder_in_the_store(here: Path, out: str, store: str, told: str) -> None:
    """However it is written, and through links."""
    (here / "link").symlink_to(here / "st")
    assert refusal(out, store) == f"{told}; choose another folder with --out"


def test_a_folder_in_another_store(here: Path) -> None:
    """A store that this run does not use is one all the same."""
    for name in ("objects", "trajectories", "tasks"):
        (here / "runs" / "store" / name).mkdir(parents=True)
    real = here.resolve() / "runs" / "store"
    told = (
        f"name 'store': its folder runs/store is the store's folder {real}; choose another folder with --out, or another name"
    )
    assert refusal("runs/store", store="elsewhere", named="store") == told
    told = f"--out runs/store/objects/x lies in the store {real}; choose another folder with --out"
    assert refusal("runs/store/objects/x", store="elsewhere") == told


def test_a_store_in_another_store(here: Path) -> None:
    """Its objects would be taken for the other's."""
    for name in ("objects", "trajectories", "tasks"):
        (here / "st" / name).mkdir(parents=True)
    told = f"lies in the store {here.resolve() / 'st'}; choose another folder with --store"
    assert refusal("out", store="st/objects") == f"--store st/objects: {told}"
    assert refusal("out", store="st/mine/deep") == f"--store st/mine/deep: {told}"
    assert refusal("out", store="st") == ""


@pytest.mark.parametrize("name", [*FILES, "earlier-1", "earlier-12", "Results.csv", "EARLIER-3", ".run.lock", ".run.owner"])
@pytest.mark.parametrize("rest", ["", "/deeper"])
def test_a_store_or_data_under_a_name_of_ours(here: Path, name: str, rest: str) -> None:
    """What a run writes or moves must not be a store."""
    taken = f"'{name.lower()}' in out is the name of a run's own file or folder"
    assert refusal("out", store=f"out/{name}{rest}") == (
        f"--store out/{name}{rest}: {taken}; choose another folder with --store"
    )
    assert refusal("out", data=f"out/{name}{rest}") == f"--data out/{name}{rest}: {taken}; choose another folder with --data"


def test_names_that_only_look_like_ours(here: Path) -> None:
    """They are free."""
    for name in ("earlier-", "earlier-one", "earlier", "my-results.csv", "store"):
        assert refusal("out", store=f"out/{name}") == ""


def test_a_folder_that_is_the_data_root(here: Path) -> None:
    """Data sets and rows do not mix."""
    assert refusal("Data") == "--out Data is the data root data; choose another folder with --out"


# One run at a time


def test_nothing_is_left_of_the_lock(here: Path) -> None:
    """A run that has ended leaves what it wrote, and no more."""
    with open_folder(here / "out"):
        assert (here / "out" / ".run.lock").exists()
    assert [path.name for path in (here / "out").iterdir()] == ["events.jsonl"]


def test_a_second_run_in_a_folder(here: Path) -> None:
    """It is told who is there, and what jobs of an array should do."""
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
def test_a_second_run_that_cannot_read_who_is_there(here: Path, content: str) -> None:
    """It is refused all the same."""
    with open_folder(here):
        (here / ".run.owner").write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r": another run is writing there; wait until it has ended"), open_folder(here):
            pass


def test_a_killed_run_holds_nothing(here: Path) -> None:
    """The operating system frees the lock, whatever lies there; as long as the process lives, it is named."""
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


def test_a_file_system_that_refuses_locks(here: Path) -> None:
    """No run is impossible for that: a folder under the lock's name cannot be locked."""
    (here / "out" / ".run.lock").mkdir(parents=True)
    with open_folder(here / "out"), open_folder(here / "out"):
        pass
    assert {path.name for path in (here / "out").iterdir()} == {"events.jsonl", ".run.lock"}


@pytest.mark.parametrize("name", ["results.csv", "events.jsonl", "report.html"])
def test_a_folder_or_pipe_named_as_a_file_of_a_run(here: Path, name: str) -> None:
    """One line before anything is trained; a pipe would be waited for without end."""
    for make, what in ((Path.mkdir, "a folder"), (os.mkfifo, "a pipe or socket")):
        out = Path(what.split()[1])
        out.mkdir()
        make(out / name)
        said = f"^--out {out}: {name} there is {what}, and a run writes a file of that name; choose another folder$"
        with pytest.raises(UserError, match=said), open_folder(out):
            pass


def test_a_folder_that_cannot_be_written(here: Path) -> None:
    """A file is in the way."""
    (here / "file").touch()
    with (
        pytest.raises(UserError, match=r"^--out file: cannot be written: .*; choose another folder$"),
        open_folder(Path("file")),
    ):
        pass
    with pytest.raises(UserError, match=r"^--out file/x: cannot be written: "), open_folder(Path("file/x")):
        pass


def test_what_was_half_moved_goes_in_time(here: Path) -> None:
    """A folder that a killed run was filling holds links and copies alone; another's folder stays."""
    old, young, other = ".earlier-0123456789abcdef.part", ".earlier-fedcba9876543210.part", ".earlier-mine.part"
    for name in (old, young, other):
        (here / name).mkdir()
        (here / name / "results.csv").touch()
    past = time.time() - 3600
    os.utime(here / old, (past, past))
    with open_folder(here):
        pass
    assert {path.name for path in here.glob(".*")} == {young, other}
