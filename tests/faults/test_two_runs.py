"""Two runs on one store at once: the one that waits says what it took over, and does not count it as its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from engines.conftest import wait_for
from faults.bad_system import HELD_RUN, start_python
from faults.rig import DIGITS, events


def run_json(folder: Path, out: str) -> dict[str, Any]:
    """Return the content of a run's `run.json`."""
    facts: dict[str, Any] = json.loads((folder / out / "run.json").read_text(encoding="utf-8"))
    return facts


def test_run_that_waits_for_another(tmp_path: Path) -> None:
    """Its summary, its `run.json` and its events count apart what the other run did; each epoch belongs to one run."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(DIGITS))
    store = tmp_path / "store"
    first = start_python(tmp_path, "-c", HELD_RUN, "first", store, faults={})
    wait_for(lambda: events(tmp_path, "train_started", "first") or first.poll() is not None)
    command = ("-m", "harness", "run", "small.yaml", "--workers", "1", "--out", "second", "--store", store)
    second = start_python(tmp_path, *command, faults={})
    wait_for(lambda: events(tmp_path, "waiting", "second") or second.poll() is not None)
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
