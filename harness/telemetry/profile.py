"""The profile of a run: the seconds of each process by phase, computed from the run's events.

After every group of tasks, a process reports its seconds by phase. The engine reports when worker processes start, become
ready and end. Seconds without a known phase count as "other". Seconds of a killed process that it has not reported count as
"lost".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.telemetry.events import Event, PhasesMeasured, WorkerEnded, WorkerReady, WorkerStarted

Seconds = Mapping[str, float]
"""Seconds by phase."""

_NORMAL_EXITS = (0, 130, 143)  # exit codes of workers that were done, or that a signal asked to stop

UNEXPLAINED = ("other", "lost")
"""Phases that do not say what the time was used for."""


Process = tuple[str, int]
"""A process: where it runs ("" for this machine), and its ID there."""


class Profile:
    """An observer of one run. `process` is the ID of the process that runs the benchmark; without workers it does the tasks."""

    def __init__(self, process: int) -> None:
        self._process: Process = "", process
        self._phases: dict[Process, Seconds] = {self._process: {}}
        self._began: dict[Process, float] = {}
        self._ready: dict[Process, float] = {}
        self._ended: dict[Process, float] = {}
        self._exited_normally: set[Process] = set()

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if not isinstance(event, PhasesMeasured | WorkerStarted | WorkerReady | WorkerEnded):
            return
        process = event.place, event.process
        if isinstance(event, PhasesMeasured):
            self._phases[process] = _sum([self._phases.get(process, {}), event.seconds])
        elif isinstance(event, WorkerStarted):
            self._began[process] = event.time
        elif isinstance(event, WorkerReady):
            self._ready[process] = event.time
        else:
            self._ended[process] = event.time
            if event.code in _NORMAL_EXITS:
                self._exited_normally.add(process)

    def report(self, now: float) -> dict[str, Any]:
        """Return the profile of a finished run, the content of `profile.json`.

        `now` is in seconds since 1970. In the profile, `wall_seconds` is the time of the run. `phases` are the summed
        seconds of the workers, or those of the run if there are none. `explained` is the share of all processes' time, in
        percent, that is not "other" or "lost". `processes` has the seconds by process.
        """
        run = self._phases[self._process]
        workers = {process: self._worker_seconds(process, now) for process in self._began}
        processes = [_process_json(self._process, "run", run)]
        for process, seconds in workers.items():
            processes.append(_process_json(process, "worker", seconds))
        return {
            "wall_seconds": round(sum(run.values()), 3),
            "explained": _explained_percent([run, *workers.values()]),
            "phases": _rounded(_sum(workers.values()) if workers else run),
            "processes": processes,
        }

    def _worker_seconds(self, process: Process, now: float) -> Seconds:
        """Return a worker's seconds by phase. What it did not report counts as "ending", or as "lost" if it was killed."""
        began = self._began[process]
        ended = self._ended.get(process, now)
        seconds = dict(self._phases.get(process, {}))
        seconds.pop("starting", None)  # measured here instead: Python starts before the worker's watch
        reported = sum(seconds.values())
        starting = self._ready.get(process, began) - began
        remainder = "ending" if process in self._exited_normally else "lost"
        rest = max(0.0, ended - began - starting - reported)
        return _sum([seconds, {"starting": starting, remainder: rest}])


def _process_json(process: Process, role: str, phases: Seconds) -> dict[str, Any]:
    place, number = process
    where = {"place": place} if place else {}
    return {"process": number, **where, "role": role, "phases": _rounded(phases)}


def _explained_percent(processes: Iterable[Seconds]) -> float:
    """Return the share of the processes' time in explained phases, in percent."""
    phases = _sum(processes)
    total = sum(phases.values())
    if not total:
        return 100.0
    unexplained = sum(phases.get(name, 0.0) for name in UNEXPLAINED)
    return round(100 * (1 - unexplained / total), 2)


def summarize(report: Mapping[str, Any]) -> str:
    """Return a profile as one line, with the largest shares first."""
    workers = 0
    for process in report["processes"]:
        if process["role"] == "worker":
            workers += 1
    where = ""
    if workers:
        where = f" in {workers} workers" if workers > 1 else " in 1 worker"
    shares = ", ".join(_shares(report["phases"]))
    return f"{report['wall_seconds']:.1f} s{where}: {shares}; {report['explained']:.1f} % explained"


def _sum(several: Iterable[Seconds]) -> Seconds:
    """Return the sum of seconds by phase."""
    total: dict[str, float] = {}
    for phases in several:
        for name, seconds in phases.items():
            total[name] = total.get(name, 0.0) + seconds
    return total


def _shares(phases: Seconds) -> list[str]:
    """Return each phase's share in percent as text, the largest first; shares below 0.1 % are left out."""
    total = sum(phases.values())
    lines = []
    for name, seconds in sorted(phases.items(), key=lambda item: -item[1]):
        if total and 100 * seconds / total >= 0.1:
            lines.append(f"{name} {100 * seconds / total:.1f} %")
    return lines


def _rounded(phases: Seconds) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in sorted(phases.items())}
