"""Misbehaving plugins in worker processes of `harness run`: values of other plugins do not change, and the run ends."""

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
import yaml

from faults import rogue
from faults.processes import end_within, workers_of
from faults.rig import DIGITS, events
from harness.results.rows import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_all_misbehaving_plugins_in_one_run(tmp_path: Path) -> None:
    """With 27 metrics that raise, exit, hang, print, run out of memory or return invalid values, a builder that exits and an
    observer that raises, the run exits with 1, and every other value is that of a run without them."""
    environment = rogue.install(tmp_path)
    metrics = [*rogue.METRICS, "ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]
    (tmp_path / "rogue.yaml").write_text(yaml.safe_dump({**DIGITS, "methods": ["wrong", "deep"], "metrics": metrics}))
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({**DIGITS, "metrics": metrics[-2:]}))
    alone = run(tmp_path, environment, "good.yaml", "--out", "good", "--store", "good-store")
    assert alone.returncode == 0
    done = run(tmp_path, environment, "rogue.yaml", "--workers", "2", "--task-timeout", "15")
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" not in done.stderr
    rows = read_rows(tmp_path / "runs" / "small")
    main = rows[rows["main"] & (rows["method"] == "deep")].set_index("metric")
    check_messages(dict(main[main["status"] == "failed"]["message"]))
    assert set(main[main["status"] == "done"].index) == {
        "prints",
        "settings",
        "killed_once",
        "memory_once",
        "infinite",
        "undefined",
        "ensemble_accuracy",
        "joint_connectivity",
        "training_epochs",
    }
    good = read_rows(tmp_path / "good").set_index("metric")
    for name in ("ensemble_accuracy", "joint_connectivity"):
        assert main.loc[name, "value"] == good.loc[name, "value"]
    unplanned = rows[rows["method"] == "wrong"]
    assert set(unplanned["status"]) == {"failed"}
    assert unplanned["message"].str.contains("its builder fails: SystemExit: 3 (rogue.py:", regex=False).all()
    check_output(tmp_path, done)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupt_of_a_plugin_that_hangs(tmp_path: Path, workers: str) -> None:
    """Two interrupts end the run at once, and its workers end within 75 seconds; with --task-timeout the next run trains
    nothing and fails the cells."""
    found = rogue.install(tmp_path)
    (tmp_path / "hangs.yaml").write_text(yaml.safe_dump({**DIGITS, "metrics": ["hangs"]}))
    command = [sys.executable, "-m", "harness", "run", "hangs.yaml", "--out", "out", "--workers", workers]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, **found, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any(event["kind"] == "measure" for event in events(tmp_path, "task_started")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pids = workers_of(process.pid)
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert len(pids) == (2 if workers == "2" else 0)
    assert end_within(75, pids)
    assert "stopped at once; what was saved before stays" in process.communicate()[1]
    done = run(tmp_path, found, "hangs.yaml", "--out", "out", "--workers", workers, "--task-timeout", "5")
    assert done.returncode == 1, done.stderr
    assert "0 epochs of training" in done.stdout
    assert "no sign of life for 5 seconds" in done.stderr


def run(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `harness run` in a folder, with more environment variables."""
    command = [sys.executable, "-m", "harness", "run", *words]
    env = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def check_messages(messages: dict[str, str]) -> None:
    """Assert that every failed metric has a message that says what it did."""
    hook = "of plugin 'rogue' of distribution 'rogue 1.0': measure "
    expected = {
        "raises": "raised RuntimeError: not today xxx",
        "exits": "raised SystemExit: 7 (rogue.py:",
        "unspeakable": "raised Unspeakable: (its message cannot be read)",
        "recursion": "raised RecursionError: too deep",
        "canceled": "raised GeneratorExit",
        "nothing": "raised TypeError: 'NoneType' object is not iterable",
        "number": "raised TypeError: 'float' object is not iterable",
        "scribbles": "raised ValueError: assignment destination is read-only",
        "empty": "gave []; its own MetricValue first is expected",
        "foreign": "its own MetricValue first is expected",
        "misnamed": "its own MetricValue first is expected",
        "textual": "a name, numbers, a unit and higher, lower or nothing are expected",
        "sideways": "better='up'",
        "unitless": "unit=None",
        "twice": "gave two values named 'twice'",
        "endless": "gave more than 100000 values",
        "memory_twice": "measuring resnet20 on digits: MemoryError: a lot",
    }
    for name, problem in expected.items():
        start = problem if name == "memory_twice" else f"metric '{name}' {hook}"
        assert messages[name].startswith(start), (name, messages[name])
        assert problem in messages[name], (name, messages[name])
        assert len(messages[name]) < 800
    assert messages["usurper"] == (
        "metric 'usurper' gives a value named 'ensemble_accuracy', as metric 'ensemble_accuracy' does; rename it"
    )
    for name in ("vanishes", "orphans"):
        assert messages[name] == "its worker process ended with exit code 3 before it was done, twice"
    assert messages["hangs"] == "no sign of life for 15 seconds (--task-timeout); its worker process was ended"
    assert set(messages) == {*expected, "usurper", "vanishes", "orphans", "hangs"}


def check_output(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Assert that standard output is the board, and that failures, second tries and traceback files are on standard error."""
    assert done.stdout.startswith("### small: digits, resnet20")
    for printed in ("hello", "at planning", "child"):
        assert printed not in done.stdout
    assert "in digits × resnet20, deep, seed 0" in done.stderr
    assert "its worker process ended with signal 9 before it was done; tried once more, alone" in done.stderr
    assert "out of memory; tried alone, once more" in done.stderr
    [observer] = [line for line in done.stderr.splitlines() if line.startswith("observer ")]
    failed = "observer plugin 'rogue' of distribution 'rogue 1.0' failed and gets no more events: "
    assert re.fullmatch(rf"{failed}SystemExit: an observer ends nothing \(rogue\.py:\d+\)", observer)
    tracebacks = [line.split(": ", 1)[1] for line in done.stderr.splitlines() if line.startswith("  traceback: ")]
    assert len(tracebacks) > 10
    assert [path for path in tracebacks if not (folder / path).is_file()] == []
    facts = json.loads((folder / "runs" / "small" / "run.json").read_text())
    assert facts["status"] == "failed"
    assert {cell["method"] for cell in facts["failures"]} == {"wrong", "deep"}
