"""Time by phase: the stopwatch of one process, and the profile of a run, computed from the events of its processes."""

from __future__ import annotations

import contextlib
import os

import pytest

from harness.telemetry.events import PhasesMeasured, WorkerEnded, WorkerReady, WorkerStarted
from harness.telemetry.profile import Profile, summarize
from harness.telemetry.stopwatch import Stopwatch


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nested_phases() -> None:
    """The seconds of an inner phase are not counted for the outer one, and each lap starts at zero."""
    clock = Clock()
    watch = Stopwatch("waiting", clock)
    clock.now += 1
    with watch("training"):
        clock.now += 2
        with watch("store"):
            clock.now += 4
    clock.now += 8
    watch.turn("rest")
    clock.now += 16
    assert watch.lap() == {"waiting": 9.0, "training": 2.0, "store": 4.0, "rest": 16.0}
    clock.now += 1
    phases = watch.phases()
    assert phases.process == os.getpid()
    assert phases.seconds == {"rest": 1.0}


def test_phase_ends_with_an_error() -> None:
    """Time after the error belongs to the outer phase."""
    clock = Clock()
    watch = Stopwatch("waiting", clock)
    with contextlib.suppress(KeyError), watch("training"):
        clock.now += 2
        raise KeyError
    clock.now += 3
    assert watch.lap() == {"waiting": 3.0, "training": 2.0}


def add_phases(profile: Profile, process: int, **seconds: float) -> None:
    """Send a profile the seconds of a process by phase."""
    profile(PhasesMeasured(process=process, seconds=seconds))


def test_run_without_workers() -> None:
    """Laps are summed; the phase `other` does not count as explained."""
    profile = Profile(1)
    add_phases(profile, 1, starting=1.0, store=2.0)
    add_phases(profile, 1, store=3.0, other=4.0)
    report = profile.report(0.0)
    assert report["wall_seconds"] == 10
    assert report["phases"] == {"other": 4.0, "starting": 1.0, "store": 5.0}
    assert report["explained"] == 60
    assert summarize(report) == "10.0 s: store 50.0 %, other 40.0 %, starting 10.0 %; 60.0 % explained"


def test_workers_of_which_one_is_killed_and_one_never_ready() -> None:
    """Workers are summed; time of a killed worker since its last event is lost, and all time of one that sent none."""
    profile = Profile(1)
    add_phases(profile, 1, waiting=20.0)
    for worker, started in ((2, 1000.0), (3, 1000.0), (4, 1005.0)):
        profile(WorkerStarted(process=worker, time=started))
    for worker in (2, 3):
        profile(WorkerReady(process=worker, time=1004.0))
        add_phases(profile, worker, starting=1.0, training=10.0, waiting=2.0)
    add_phases(profile, 2, waiting=2.0)
    for worker, code in ((2, 0), (3, -9)):
        profile(WorkerEnded(process=worker, time=1018.5, code=code))
    report = profile.report(1020.0)
    assert report["phases"] == {"ending": 0.5, "lost": 17.5, "starting": 8.0, "training": 20.0, "waiting": 6.0}
    assert [process["role"] for process in report["processes"]] == ["run", "worker", "worker", "worker"]
    assert report["explained"] == pytest.approx(100 * (1 - 17.5 / 72), abs=0.01)
    assert summarize(report).startswith("20.0 s in 3 workers: training 38.5 %, lost 33.7 %")


def test_profile_without_phases() -> None:
    """A run that failed before it did anything is fully explained."""
    assert Profile(1).report(0.0)["explained"] == 100
