"""The number of CPUs that a process may use: its affinity and the quotas of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.execution.engines.cpu_count import CpuCount, count_cpus

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def count_in(folder: Path, membership: str, files: dict[str, str]) -> CpuCount:
    """Count CPUs with an invented tree of control groups: files by path, and the content of `/proc/self/cgroup`."""
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "membership").write_text(membership)
    return count_cpus(folder / "cgroup", folder / "membership")


QUOTAS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "a container's root": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "own group": ("0::/job/step\n", {"job/step/cpu.max": "50000 100000\n"}, 0.5),
    "an ancestor is stricter": (
        "0::/job/step\n",
        {"job/step/cpu.max": "400000 100000\n", "job/cpu.max": "200000 100000\n", "cpu.max": "max 100000\n"},
        2.0,
    ),
    "no limit": ("0::/job\n", {"job/cpu.max": "max 100000\n"}, None),
    "a sibling's limit": ("0::/job\n", {"other/cpu.max": "100000 100000\n"}, None),
    "the host's name of the group": ("0::/docker/abc\n", {"cpu.max": "100000 100000\n"}, 1.0),
    "a group outside the namespace": ("0::/../../job\n", {"cpu.max": "300000 100000\n"}, 3.0),
    "version 1": (
        "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n",
        {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1, no limit here but above": (
        "1:cpu:/job\n",
        {
            "cpu/job/cpu.cfs_quota_us": "-1\n",
            "cpu/job/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "50000\n",
        },
        2.0,
    ),
    "another controller": ("3:cpuset:/job\n", {"cpuset/job/cpu.max": "100000 100000"}, None),
    "not understood": ("0::/\nnonsense\n\n", {"cpu.max": "some thing"}, None),
    "nothing there": ("", {}, None),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_quota_of_control_groups(tmp_path: Path, case: str) -> None:
    """The quota is the smallest one of the process's group and its ancestors, in both versions of the interface."""
    membership, files, quota = QUOTAS[case]
    assert count_in(tmp_path, membership, files) == CpuCount(AFFINITY, quota)


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, None, 8), (8, 1.5, 2), (8, 2.0, 2), (8, 0.3, 1), (2, 3.5, 2), (1, 0.01, 1), (64, 64, 64)],
)
def test_number_of_workers(affinity: int, quota: float | None, usable: int) -> None:
    """It is the quota rounded up, at most the affinity, and at least one."""
    assert CpuCount(affinity, quota).usable == usable


def test_system_without_control_groups(tmp_path: Path) -> None:
    """There is no quota."""
    assert count_cpus(tmp_path, tmp_path / "nothing").quota is None


def test_description() -> None:
    """It has the number of workers, the affinity and the quota, as `harness doctor` prints them."""
    assert CpuCount(8, 1.5).describe() == "2 CPUs (8 by affinity, quota 1.5)"
    assert CpuCount(1, None).describe() == "1 CPU (1 by affinity, no quota)"
