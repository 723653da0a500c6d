"""Where the time went: the stopwatch of a process, and the profile of a run made of what processes tell."""

from __future__ import annotations

import contextlib
import os

import pytest

from harness.telemetry.events import PhasesMeasured, WorkerEnded, WorkerReady, WorkerStarted
from harness.telemetry.profile import Profile, summarize
from harness.telemetry.stopwatch import Stopwatch


class Clock:
    """Seconds that pass when told so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_second_has_one_phase() -> None:
    """An inner phase's seconds are not the outer one's, and a lap starts anew."""
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
    """What comes after it belongs to the phase around it."""
    clock = Clock()
    watch = Stopwatch("waiting", clock)
    with contextlib.suppress(KeyError), watch("training"):
        clock.now += 2
        raise KeyError
    clock.now += 3
    assert watch.lap() == {"waiting": 3.0, "training": 2.0}


def tell(profile: Profile, process: int, **seconds: float) -> None:
    profile(PhasesMeasured(process=process, seconds=seconds))


def test_run_that_works_itself_is_its_own_profile() -> None:
    """Laps add up; what has no name is not explained."""
    profile = Profile(1)
    tell(profile, 1, starting=1.0, store=2.0)
    tell(profile, 1, store=3.0, other=4.0)
    report = profile.report(0.0)
    assert report["wall_seconds"] == 10
    assert report["phases"] == {"other": 4.0, "starting": 1.0, "store": 5.0}
    assert report["explained"] == 60
    assert summarize(report) == "10.0 s: store 50.0 %, other 40.0 %, starting 10.0 %; 60.0 % explained"


def test_workers_are_added_up_and_the_killed_ones_time_is_lost() -> None:
    """What a killed one did since its last word is lost, and of one that never spoke everything is."""
    profile = Profile(1)
    tell(profile, 1, waiting=20.0)
    for worker, began in ((2, 1000.0), (3, 1000.0), (4, 1005.0)):
        profile(WorkerStarted(process=worker, time=began))
    for worker in (2, 3):
        profile(WorkerReady(process=worker, time=1004.0))
        tell(profile, worker, starting=1.0, training=10.0, waiting=2.0)
    tell(profile, 2, waiting=2.0)
    for worker, code in ((2, 0), (3, -9)):
        profile(WorkerEnded(process=worker, time=1018.5, code=code))
    report = profile.report(1020.0)
    assert report["phases"] == {"ending": 0.5, "lost": 17.5, "starting": 8.0, "training": 20.0, "waiting": 6.0}
    assert [process["role"] for process in report["processes"]] == ["run", "worker", "worker", "worker"]
    assert report["explained"] == pytest.approx(100 * (1 - 17.5 / 72), abs=0.01)
    assert summarize(report).startswith("20.0 s in 3 workers: training 38.5 %, lost 33.7 %")


def test_nothing_told_is_nothing_divided() -> None:
    """A run that failed before it did anything has a profile too."""
    assert Profile(1).report(0.0)["explained"] == 100
