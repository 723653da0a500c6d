"""Durations, time limits and profiles of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.command_line import FILE, run_harness
from harness.execution.stopping import Stopper
from harness.runs.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("25m", 1500),
        ("1h30m", 5400),
        ("90s", 90),
        ("90", 90),
        ("1.5s", 1.5),
        ("2d", 172800),
        ("1d1h1m1s", 90061),
        (" 5M ", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """The usual notations are read as seconds."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "m", "-5m", "1.5h", "25 m", "30m1h", "nan", "1e3", "٣m", "99999d", "9" * 50])
def test_invalid_durations(text: str) -> None:
    """Any other text is no duration."""
    assert seconds_of(text) is None


@pytest.mark.parametrize(("limit", "end"), [(10.0, 5.0), (60.0, 55.0), (1500.0, 1470.0), (86400.0, 86340.0)])
def test_time_limit(limit: float, end: float) -> None:
    """Work stops 2 % before the limit: at least five seconds (but at most half of the limit) and at most a minute."""
    now = 1000.0
    stopper = Stopper(limit=limit, clock=lambda: now)
    now += end - 0.01
    assert not stopper.stopping()
    now += 0.02
    assert stopper.stopping()
    assert stopper.time_is_over
    assert stopper.exit_code == 130


def test_no_time_limit() -> None:
    """Work never stops by itself."""
    assert not Stopper(clock=lambda: 1e12).stopping()


def test_run_in_time_slots(tmp_path: Path) -> None:
    """A run that reaches its limit writes its rows, prints the command that continues, and ends with exit code 130."""
    long = {**FILE, "recipe": {**FILE["recipe"], "epochs": 5000}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(long))
    done = run_harness("run", "small.yaml", "--time-limit", "8s", "--workers", 1, cwd=tmp_path, code=130)
    assert "time is over; what was computed is saved. To go on:\n  harness run small.yaml --time-limit 8s" in done.stderr
    out = tmp_path / "runs" / "small"
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert "missing" in (out / "results.csv").read_text()
    done = run_harness("run", "small.yaml", "--time-limit", "soon", cwd=tmp_path, code=2)
    assert "'soon' is no duration; write 25m, 1h30m, 90s or 2d" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_profile(tmp_path: Path, workers: int) -> None:
    """The phases explain more than 90 % of the time, in `profile.json` and in a printed line."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    done = run_harness("run", "small.yaml", "--profile", "--workers", workers, cwd=tmp_path)
    profile: dict[str, Any] = json.loads((tmp_path / "runs" / "small" / "profile.json").read_text())
    assert {"data", "forward/backward", "optimizer", "evaluation", "store", "starting", "checking", "waiting"} <= set(
        profile["phases"]
    )
    assert all(seconds >= 0 for seconds in profile["phases"].values())
    assert profile["explained"] > 90
    assert len(profile["processes"]) == (1 if workers == 1 else 3)
    run = profile["processes"][0]["phases"]
    assert sum(run.values()) == pytest.approx(profile["wall_seconds"], abs=0.01)
    assert f"profile: {profile['wall_seconds']:.1f} s" in done.stderr
