"""The number of CPUs this process may use: the minimum of its affinity and the CPU quotas of its control groups (Linux)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUP_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class CpuCount:
    """CPUs by affinity (those the scheduler may use), and by quota (CPU seconds per second; None: unlimited)."""

    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """The number of single-threaded processes that are needed to use all available CPU time, at least 1.

        A quota is rounded up, as Go and the JVM do: 1.5 gives 2. One process could use 1 CPU only.
        """
        if self.quota is None:
            return self.affinity
        return max(1, min(self.affinity, math.ceil(self.quota)))

    def describe(self) -> str:
        """Return a description such as `2 CPUs (8 by affinity, quota 1.5)`."""
        limit = "no quota" if self.quota is None else f"quota {self.quota:g}"
        noun = "CPUs" if self.usable > 1 else "CPU"
        return f"{self.usable} {noun} ({self.affinity} by affinity, {limit})"


def count_cpus(cgroup_mount: Path = _CGROUP_MOUNT, membership: Path = _MEMBERSHIP) -> CpuCount:
    """Return the CPUs this process may use. A file of a control group that cannot be read sets no limit."""
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    else:
        affinity = os.cpu_count() or 1
    return CpuCount(affinity, min(_quotas(cgroup_mount, membership), default=None))


def _quotas(mount: Path, membership: Path) -> Iterator[float]:
    """Yield the quotas of the process's control groups and all their ancestors, of cgroup versions 1 and 2."""
    for folder, group in _hierarchies(mount, membership):
        for level in (group, *group.parents):
            where = folder / level
            quota = _quota_of_version_2(where) or _quota_of_version_1(where)
            if quota is not None:
                yield quota


def _hierarchies(mount: Path, membership: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the mount folder and this process's group for each hierarchy that controls the CPU.

    A line of the membership file is `0::/group` (version 2) or `4:cpu,cpuacct:/group` (version 1). In a container it may
    contain the host's path of the group, while the mount has the container's group as its root. Folders of that path that
    do not exist set no limit.
    """
    for line in (_read(membership) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = Path(*[part for part in Path(path).parts if part not in ("/", "..")])
        if number == "0" and not controllers:
            yield mount, group
        elif "cpu" in controllers.split(","):
            yield mount / controllers, group
            yield mount / "cpu", group


def _quota_of_version_2(group: Path) -> float | None:
    """Return the CPUs that `cpu.max` allows: `QUOTA PERIOD` in microseconds, or `max PERIOD`."""
    words = (_read(group / "cpu.max") or "").split()
    if len(words) != 2:
        return None
    quota, period = words
    return _ratio(quota, period)


def _quota_of_version_1(group: Path) -> float | None:
    """Return the CPUs that `cpu.cfs_quota_us` allows; -1 means no limit."""
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    if quota is None or period is None:
        return None
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period; None if one of them is no positive integer."""
    try:
        numerator, denominator = int(quota), int(period)
    except ValueError:
        return None
    if numerator <= 0 or denominator <= 0:
        return None
    return numerator / denominator


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
