"""Where the time of a run went, by phase. Computed from the run's events alone.

After every group of tasks a process reports how many seconds it spent in which phase. The engine reports when worker processes
start, are ready and end. Every second of every process has a phase, is unexplained ("other"), or was lost with a process that
was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.telemetry.events import Event, PhasesMeasured, WorkerEnded, WorkerReady, WorkerStarted

Seconds = Mapping[str, float]
"""By phase."""

_ORDERLY = (0, 130, 143)  # exit codes of workers that are done, or were asked to stop

UNEXPLAINED = ("other", "lost")


class Profile:
    """Observes one run. `process` is the one that runs it; without workers it does the work itself."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._phases: dict[int, Seconds] = {process: {}}
        self._began: dict[int, float] = {}
        self._ready: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._orderly: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, PhasesMeasured):
            self._phases[event.process] = _sum([self._phases.get(event.process, {}), event.seconds])
        elif isinstance(event, WorkerStarted):
            self._began[event.process] = event.time
        elif isinstance(event, WorkerReady):
            self._ready[event.process] = event.time
        elif isinstance(event, WorkerEnded):
            self._ended[event.process] = event.time
            if event.code in _ORDERLY:
                self._orderly.add(event.process)

    def report(self, now: float) -> dict[str, Any]:
        """Return the profile of a run that is over, as `profile.json` holds it.

        `phases` adds up the processes that work: the workers, or the run's own where there are none. `explained` is the share
        of all processes' time, in percent, that has a name; `now` is the time since the epoch, in seconds.
        """
        run = self._phases[self._process]
        workers = {process: self._of_worker(process, now) for process in self._began}
        everything = [run, *workers.values()]
        all_together = _sum(everything)
        total = sum(all_together.values())
        unknown = sum(all_together.get(name, 0.0) for name in UNEXPLAINED)
        return {
            "wall_seconds": round(sum(run.values()), 3),
            "explained": round(100 * (1 - unknown / total), 2) if total else 100.0,
            "phases": _rounded(_sum(workers.values()) if workers else run),
            "processes": [
                {"process": self._process, "role": "run", "phases": _rounded(run)},
                *({"process": process, "role": "worker", "phases": _rounded(phases)} for process, phases in workers.items()),
            ],
        }

    def _of_worker(self, process: int, now: float) -> Seconds:
        """Return a worker's seconds. What it did not tell of went to its end, or was lost with it if that was not orderly."""
        began, ended = self._began[process], self._ended.get(process, now)
        told = {name: seconds for name, seconds in self._phases.get(process, {}).items() if name != "starting"}
        starting = self._ready.get(process, began) - began  # longer than it says: Python starts before the watch does
        left = ended - began - starting - sum(told.values())
        return _sum([told, {"starting": starting, "ending" if process in self._orderly else "lost": max(0.0, left)}])


def summarize(report: Mapping[str, Any]) -> str:
    """Say a profile in a line, the largest shares first."""
    phases, total = report["phases"], sum(report["phases"].values())
    workers = sum(process["role"] == "worker" for process in report["processes"])
    who = f" in {workers} worker{'s' if workers > 1 else ''}" if workers else ""
    shares = ", ".join(_shares(phases.items(), total))
    return f"{report['wall_seconds']:.1f} s{who}: {shares}; {report['explained']:.1f} % explained"


def _sum(several: Iterable[Seconds]) -> Seconds:
    out: dict[str, float] = {}
    for phases in several:
        for name, seconds in phases.items():
            out[name] = out.get(name, 0.0) + seconds
    return out


def _shares(phases: Iterable[tuple[str, float]], total: float) -> list[str]:
    shares = {name: 100 * seconds / total for name, seconds in phases} if total else {}
    return [f"{name} {share:.1f} %" for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= 0.1]


def _rounded(phases: Seconds) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in sorted(phases.items())}
