"""How many CPUs this process may use: the smallest of its affinity and the quotas of its control groups (Linux containers)."""

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
    """CPUs by affinity (what the scheduler may choose from), and by quota: CPU seconds per second, or nothing if unlimited."""

    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """The number of single-threaded processes that use all of it, at least 1.

        A fraction of a CPU counts as one (a quota of 1.5 gives 2): fewer processes could not use the quota up, and with more
        of them than that the kernel only pauses each for a while. Go and the JVM round in the same way.
        """
        if self.quota is None:
            return self.affinity
        return max(1, min(self.affinity, math.ceil(self.quota)))

    def describe(self) -> str:
        """Return it in words: `2 CPUs (8 by affinity, quota 1.5)`."""
        limit = "no quota" if self.quota is None else f"quota {self.quota:g}"
        return f"{self.usable} CPU{'s' if self.usable > 1 else ''} ({self.affinity} by affinity, {limit})"


def count_cpus(cgroup_mount: Path = _CGROUP_MOUNT, membership: Path = _MEMBERSHIP) -> CpuCount:
    """Return how many CPUs this process may use. Files of control groups that are missing or not readable set no limit."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = list(_quotas(cgroup_mount, membership))
    return CpuCount(affinity, min(quotas) if quotas else None)


def _quotas(mount: Path, membership: Path) -> Iterator[float]:
    """Yield the quotas of the process's control groups and of all their ancestors, in both versions of the interface."""
    for folder, group in _hierarchies(mount, membership):
        for level in (group, *group.parents):
            where = folder / level
            quota = _quota_of_version_2(where) or _quota_of_version_1(where)
            if quota is not None:
                yield quota


def _hierarchies(mount: Path, membership: Path) -> Iterator[tuple[Path, Path]]:
    """Yield, for each hierarchy that controls the CPU, where it is mounted and this process's group in it.

    A line reads `0::/group` (version 2) or `4:cpu,cpuacct:/group` (version 1). In a container the group may be named as the
    host names it, while the mount shows the container's own group as root: the missing folders are then passed over.
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
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_of_version_1(group: Path) -> float | None:
    """Return the CPUs that `cpu.cfs_quota_us` allows; -1 is no limit."""
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return None if quota is None or period is None else _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    try:
        microseconds, length = int(quota), int(period)
    except ValueError:
        return None
    return microseconds / length if microseconds > 0 and length > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
