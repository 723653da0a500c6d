"""A run that is killed at any point, and started again, ends with the same rows and weights."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.bad_disk import EXIT, BadDisk
from faults.processes import pid_of
from faults.rig import check_same, epochs_repeated, in_process, run_here, run_on
from harness import files

SIGNALS = ("KILL", "TERM", "INT")


class Point(NamedTuple):
    """Where and how a run is ended: a crash at a share of the store's operations (`how` is before, half or after), or a signal
    after a share of an uninterrupted run's time."""

    how: str
    share: float
    power_cut: bool = False

    def __str__(self) -> str:
        name = f"{self.how}-{self.share:.3f}"
        return f"{name}-power-cut" if self.power_cut and self.how not in SIGNALS else name


def points(count: int, seed: int) -> list[Point]:
    """Return random points: six of ten are crashes, some of these with a power cut, and four are signals."""
    draw = random.Random(seed)
    kinds = ["before", "half", "after", "before", "half", "after", "KILL", "KILL", "TERM", "INT"]
    found = []
    for number in range(count):
        share = draw.random()
        found.append(Point(kinds[number % len(kinds)], share, power_cut=draw.random() < 0.4))
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, float]:
    """An uninterrupted run: its folder, the number of its operations on the store, and its seconds."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run_here(folder, Path(tmp_path_factory.mktemp("warm")))
    disk = BadDisk(under=folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", disk)
        start = time.monotonic()
        assert run_here(folder) == 0
        return folder, disk.count, time.monotonic() - start


def run_until(point: Point, folder: Path, operations: int, seconds: float) -> int | None:
    """Start a run and end it at a point; return its exit code."""
    if point.how not in SIGNALS:
        operation = 1 + int(point.share * 0.97 * operations)
        process = in_process(run_on, folder, operation, point.how, point.power_cut)
    else:
        process = in_process(run_here, folder)
        time.sleep(point.share * seconds)
        os.kill(pid_of(process), getattr(signal, f"SIG{point.how}"))
    process.join(60)
    return process.exitcode


EXIT_CODES = {"KILL": (-9, 0), "TERM": (143, 0, -15), "INT": (130, 0, 1, -2)}
"""Exit codes of a run that is ended by a signal: 0 if the run was faster, negative if the process had not set its handlers."""


def check_point(folder: Path, point: Point, uninterrupted: tuple[Path, int, float]) -> None:
    """End a run at a point, and run again; at most one epoch, the time between two saved states, is trained twice."""
    whole, operations, seconds = uninterrupted
    code = run_until(point, folder, operations, seconds)
    assert code in EXIT_CODES.get(point.how, (EXIT,)), point
    process = in_process(run_here, folder)
    process.join(60)
    assert process.exitcode == 0, point
    check_same(folder, whole)
    assert epochs_repeated(folder) <= 1, point


@pytest.mark.parametrize("point", points(10, seed=1)[1::2], ids=str)
def test_run_killed_at_some_points(tmp_path: Path, point: Point, uninterrupted: tuple[Path, int, float]) -> None:
    """The next run ends with the rows and weights of an uninterrupted one to the bit, and without temporary files."""
    check_point(tmp_path, point, uninterrupted)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("point", points(100, seed=2024), ids=str)
def test_run_killed_at_a_hundred_points(tmp_path: Path, point: Point, uninterrupted: tuple[Path, int, float]) -> None:
    """The same is true at a hundred random points."""
    check_point(tmp_path, point, uninterrupted)
