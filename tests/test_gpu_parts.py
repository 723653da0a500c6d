"""The pieces of `benchmarks/gpu.py`: limited processes, the journal, rates of a run, archives and wheels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import gpu_wheels
import pytest
from gpu_journal import Journal, Standing, Status
from gpu_parts import PERF, Part
from gpu_process import KEPT_BYTES, Ending, run_limited
from gpu_rates import compared
from gpu_slot import pack, status_of
from json_lines import append_line

PYTHON = [sys.executable, "-c"]


def nothing() -> None:
    pass


def limited(path: Path, code: str, limit: float = 60.0) -> Ending:
    """Run a Python program with a limit."""
    return run_limited([*PYTHON, code], os.environ, path, limit, nothing)


def test_command_that_ends(tmp_path: Path) -> None:
    """Its output is appended, its exit code returned with the last line."""
    path = tmp_path / "output.txt"
    path.write_text("before\n")
    ending = limited(path, "import sys; print('one'); print('two', file=sys.stderr, flush=True); print(); sys.exit(3)")
    assert (ending.code, ending.timed_out) == (3, False)
    assert path.read_text().startswith("before\n")
    assert {"one", "two"} <= set(path.read_text().split())
    assert ending.last_line in ("one", "two")


def test_command_that_is_too_slow(tmp_path: Path) -> None:
    """SIGTERM ends it and its children after the limit; what it has printed is in the file."""
    path = tmp_path / "output.txt"
    code = "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '600'])"
    ending = limited(path, code, limit=5.0)
    assert (ending.code, ending.timed_out) == (128 + signal.SIGTERM, True)
    assert path.read_text() == "begun\n"
    assert ending.seconds < 60


def test_command_that_stops_cleanly(tmp_path: Path) -> None:
    """A command that handles SIGTERM ends with its own exit code."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    ending = limited(tmp_path / "output.txt", code, limit=8.0)
    assert (ending.code, ending.timed_out, ending.last_line) == (75, True, "saved")


def test_long_output(tmp_path: Path) -> None:
    """Its beginning and its end are kept."""
    path = tmp_path / "output.txt"
    ending = limited(path, "for number in range(400_000): print(number)\nprint('end')")
    text = path.read_text()
    assert text.startswith("0\n1\n")
    assert text.endswith("399999\nend\n")
    assert len(text) < 1.1 * KEPT_BYTES
    assert ending.last_line == "end"


def test_starting_process_that_is_killed(tmp_path: Path) -> None:
    """Its command is killed, too."""
    path = tmp_path / "lives"
    inner = f"import pathlib, time\nwhile True: pathlib.Path({str(path)!r}).touch(); time.sleep(0.05)"
    code = (
        f"import sys; sys.path.insert(0, {str(PERF)!r}); from gpu_process import run_limited; import os, pathlib\n"
        f"run_limited({[*PYTHON, inner]!r}, os.environ, pathlib.Path({str(tmp_path / 'output')!r}), 600, lambda: None)"
    )
    process = subprocess.Popen([*PYTHON, code])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while path.exists():
        path.unlink()
        time.sleep(2)
        assert time.monotonic() < deadline, "the command goes on"


@pytest.mark.parametrize(
    ("lines", "continues", "expected"),
    [
        ([], False, Standing()),
        (["began", "done"], False, Standing(done=True)),
        (["began", "failed"], False, Standing(failures=1, reason="why")),
        (["began", "failed", "began", "failed"], False, Standing(failures=2, reason="why")),
        (["began"], False, Standing(failures=1, reason="the call was ended while it ran")),
        (["began", "began"], False, Standing(failures=2, reason="the call was ended while it ran")),
        (["began", "began"], True, Standing()),
        (["began", "unfinished", "began", "done"], True, Standing(done=True)),
        (["skipped", "skipped"], False, Standing()),
        (["failed", "failed", "left out"], False, Standing(failures=2, reason="why", left_out=True)),
        (["failed", "failed", "left out", "again"], False, Standing()),
        (["began", "done", "again", "began", "failed"], False, Standing(failures=1, reason="why")),
    ],
)
def test_standing(lines: list[Status], continues: bool, expected: Standing, tmp_path: Path) -> None:
    """It follows from the part's own lines; a beginning without an end is a failure, unless the part continues."""
    journal = Journal(tmp_path / "gpu.jsonl")
    for status in lines:
        journal.write("other", "failed", reason="another part")
        journal.write("part", status, reason="why")
    assert journal.standing("part", continues) == expected


@pytest.mark.parametrize(
    ("continues", "code", "timed_out", "limit", "expected"),
    [
        (False, 0, False, 60, ("done", "")),
        (False, 3, False, 60, ("failed", "exit code 3: last")),
        (False, 143, True, 60, ("failed", "took longer than 60 s: last")),
        (False, 143, True, 30, ("unfinished", "the call's time was over after 30 s")),
        (True, 143, True, 60, ("unfinished", "goes on in the next call")),
        (True, 130, False, 60, ("unfinished", "goes on in the next call")),
        (True, 75, False, 60, ("unfinished", "goes on in the next call")),
        (True, 70, False, 60, ("unfinished", "last")),
        (True, 1, False, 60, ("failed", "exit code 1: last")),
    ],
)
def test_status_of_an_ending(continues: bool, code: int, timed_out: bool, limit: float, expected: tuple[str, str]) -> None:
    """A part that used up its own limit has failed; one that the call's end has cut off has not."""
    part = Part("part", lambda call, seconds: [], limit=60, continues=continues)
    assert status_of(part, Ending(code, timed_out, 1.0, "last"), limit, cut_off=limit < 60) == expected


def test_rates_of_a_run(tmp_path: Path) -> None:
    """Epochs at the same time are one group; the first of a kind is left out; the ladder's rates stand beside."""
    events = tmp_path / "events.jsonl"
    for start, seconds, objective, siblings in (
        (0, 9, "a", 3),
        (10, 2, "a", 3),
        (12, 4, "a", 3),
        (20, 5, "a", 1),
        (30, 1, "b", 2),
    ):
        for member in range(siblings):
            end = start + seconds + 0.01 * member
            append_line(events, {"event": "epoch", "time": end, "seconds": end - start, "objective": objective})
        append_line(events, {"event": "phases", "time": start})
    ladder = tmp_path / "ladder.jsonl"
    for group in ("resnet20", "evaluation"):
        append_line(ladder, {"group": group, "rung": "r", "status": "measured", "images_per_second": 7.04})
    append_line(ladder, {"group": "resnet20", "rung": "s", "status": "failed"})
    found = compared(tmp_path, 1000, ladder)
    assert found["images_per_second"] == {
        "a, siblings: 3": pytest.approx((3000 / 2.02 + 3000 / 4.02) / 2, abs=0.1),
        "a, siblings: 1": 200.0,
        "b, siblings: 2": pytest.approx(2000 / 1.01, abs=0.1),
    }
    assert found["ladder"] == {"resnet20: r": 7.0}


def test_archive_of_a_large_folder(tmp_path: Path) -> None:
    """The largest files are left out, so that the archive is at most 16 MiB."""
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "small").write_bytes(b"rows")
    (folder / "medium").write_bytes(os.urandom(9 * 2**20))
    (folder / "large").write_bytes(os.urandom(10 * 2**20))
    target = tmp_path / "run.tar.gz"
    pack(tmp_path, ["run", "missing"], target)
    with tarfile.open(target) as archive:
        assert set(archive.getnames()) == {"run/deep/small", "run/medium"}
    assert target.stat().st_size <= 16 * 2**20


def test_carried_wheels() -> None:
    """Everything that the project needs is expected on the machine, or carried; what is large brings no dependencies."""
    closed, open_ended = gpu_wheels.requirements()
    assert {text.split(">")[0] for text in closed} == {"timm", "pandas", "safetensors", "torchmetrics"}
    carried = {text.split(">")[0] for text in open_ended}
    assert {"pydantic", "filelock", "platformdirs", "pluggy", "pyyaml", "click", "pytest", "hypothesis"} <= carried
    assert not carried & set(gpu_wheels.EXPECTED)
    assert "pydantic>=2.11" in open_ended


def test_too_many_wheels(tmp_path: Path) -> None:
    """More than 60 MiB are refused with the largest wheels; less is described line by line."""
    (tmp_path / "small-1-py3-none-any.whl").write_bytes(bytes(2**20))
    assert gpu_wheels.describe(tmp_path)[-1] == f"    1.00 MiB  in 1 wheels; install them there with --wheels {tmp_path.name}"
    with (tmp_path / "huge-1-py3-none-any.whl").open("wb") as file:
        file.truncate(70 * 2**20)
    message = r"71 MiB of wheels; at most 60 MiB can be carried. The largest: huge-1-py3-none-any.whl \(70 MiB\)"
    with pytest.raises(gpu_wheels.PrepareError, match=message):
        gpu_wheels.describe(tmp_path)


@pytest.mark.network
def test_prepare(tmp_path: Path) -> None:
    """The project's wheel and those of its dependencies for Python 3.12 are collected."""
    lines = gpu_wheels.prepare(tmp_path)
    names = {path.name.split("-")[0] for path in tmp_path.glob("*.whl")}
    assert {"basin_harness", "pydantic", "pydantic_core", "annotated_types", "platformdirs", "filelock"} <= names
    assert not names & {"torch", "numpy", "scipy"}
    assert "MiB  in" in lines[-1]
