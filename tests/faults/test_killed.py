"""Killed anywhere: a run that is ended at any moment, in any way, and issued again ends with the same rows and weights."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faults.bad_disk import EXIT, BadDisk
from faults.rig import check_same, epochs_repeated, in_process, pid_of, run_here, run_on
from harness import files as disk_files

SIGNALS = ("KILL", "TERM", "INT")


class Point(NamedTuple):
    """Where and how a run is ended: a crash at an operation of the store (`how` before, half, after), or a signal after a share
    of an undisturbed run's time."""

    how: str
    share: float
    power_cut: bool = False

    def __str__(self) -> str:
        return f"{self.how}-{self.share:.3f}{'-power-cut' if self.power_cut and self.how not in SIGNALS else ''}"


def points(count: int, seed: int) -> list[Point]:
    """Return random points: crashes at operations of the store, power cuts among them, and signals."""
    draw = random.Random(seed)
    kinds = ["before", "half", "after", "before", "half", "after", "KILL", "KILL", "TERM", "INT"]
    return [Point(kinds[i % len(kinds)], draw.random(), power_cut=draw.random() < 0.4) for i in range(count)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, float]:
    """A run that nobody disturbs: its folder, its operations on the store, its seconds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_here(folder, Path(tmp_path_factory.mktemp("warm")))
    before, disk_files.os = disk_files.os, BadDisk(under=folder / "store")  # type: ignore[assignment]
    try:
        began = time.monotonic()
        assert run_here(folder) == 0
        return folder, disk_files.os.count, time.monotonic() - began  # type: ignore[attr-defined]
    finally:
        disk_files.os = before


def disturb(folder: Path, point: Point, operations: int, seconds: float) -> int | None:
    """Begin a run and end it at a point; return the exit code."""
    if point.how not in SIGNALS:
        process = in_process(run_on, folder, 1 + int(point.share * 0.97 * operations), point.how, point.power_cut)
    else:
        process = in_process(run_here, folder)
        time.sleep(point.share * seconds)
        os.kill(pid_of(process), getattr(signal, f"SIG{point.how}"))
    process.join(60)
    return process.exitcode


def check_point(folder: Path, point: Point, undisturbed: tuple[Path, int, float]) -> None:
    whole, operations, seconds = undisturbed
    code = disturb(folder, point, operations, seconds)
    expected: dict[str, Any] = {"KILL": (-9, 0), "TERM": (143, 0, -15), "INT": (130, 0, 1, -2)}
    assert code in expected.get(point.how, (EXIT,)), point
    process = in_process(run_here, folder)
    process.join(60)
    assert process.exitcode == 0, point
    check_same(folder, whole)
    assert epochs_repeated(folder) <= 1, point


@pytest.mark.parametrize("point", points(10, seed=1)[1::2], ids=str)
def test_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, point: Point, undisturbed: tuple[Path, int, float]
) -> None:
    """Rows and weights are an undisturbed run's to the bit, the store verifies, nothing is left over, and at most one epoch
    (here the time between two savings) is trained twice."""
    check_point(tmp_path, point, undisturbed)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("point", points(100, seed=2024), ids=str)
def test_killed_at_a_hundred_points(tmp_path: Path, point: Point, undisturbed: tuple[Path, int, float]) -> None:
    """The same at a hundred random points."""
    check_point(tmp_path, point, undisturbed)
