"""Two runs on one store at once: the one that waits says what it took over, and does not count it as its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.conftest import wait_for
from faults.bad_system import HELD_RUN, start_python
from faults.rig import DIGITS, events

SLOW_START = 300.0  # seconds in which a process imports torch, also on a busy machine

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts Python in the test's folder; what still runs at the test's end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*words: str | Path) -> subprocess.Popen[str]:
        started.append(start_python(tmp_path, *words, faults={}))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def run_json(folder: Path, out: str) -> dict[str, Any]:
    """Return the content of a run's `run.json`."""
    facts: dict[str, Any] = json.loads((folder / out / "run.json").read_text(encoding="utf-8"))
    return facts


def test_run_that_waits_for_another(tmp_path: Path, start: Start) -> None:
    """Its summary, its `run.json` and its events count apart what the other run did; each epoch belongs to one run."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(DIGITS))
    store = tmp_path / "store"
    first = start("-c", HELD_RUN, "first", store)
    wait_for(lambda: events(tmp_path, "train_started", "first") or first.poll() is not None, SLOW_START)
    second = start("-m", "harness", "run", "small.yaml", "--workers", "1", "--out", "second", "--store", store)
    wait_for(lambda: events(tmp_path, "waiting", "second") or second.poll() is not None, SLOW_START)
    (tmp_path / "go").touch()
    _, first_errors = first.communicate(timeout=300)
    output, errors = second.communicate(timeout=300)
    assert (first.returncode, second.returncode) == (0, 0), first_errors + errors

    facts = run_json(tmp_path, "second")
    in_all = DIGITS["members"] * DIGITS["recipe"]["epochs"]
    assert facts["tasks_taken_over"] >= 1
    assert facts["epochs_taken_over"] >= DIGITS["recipe"]["epochs"]
    assert facts["epochs_trained"] + facts["epochs_taken_over"] == in_all
    assert run_json(tmp_path, "first")["epochs_trained"] + facts["epochs_trained"] == in_all

    assert "taken over: resnet20 on digits, seed 0 member 0, cross-entropy: another run has done it\n" in errors
    [summary] = re.findall(r"^did .*$", output, flags=re.MULTILINE)
    taken_over = (
        f"took over {facts['tasks_taken_over']} tasks, {facts['epochs_taken_over']:g} epochs of training, from another run"
    )
    assert f", {facts['epochs_trained']:g} epochs of training; {taken_over}; rows and board are in" in summary

    ended = events(tmp_path, "task_ended", "second")
    began = {event["task"] for event in events(tmp_path, "task_started", "second")}
    assert {event["task"] for event in ended if not event["taken_over"]} == began
