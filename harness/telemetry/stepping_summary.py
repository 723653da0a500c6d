"""A summary of how the steps of a run's trainings were taken: for `run.json`, and one line for the user if there is news."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.telemetry.events import Event, TrainingStepped

_FIELDS = ("manner", "siblings", "precision", "tf32", "fallback", "device")


class SteppingSummary:
    """An observer of one run. A training that is resumed or retried counts once, as its steps were taken last."""

    def __init__(self) -> None:
        self._last: dict[str, TrainingStepped] = {}

    def __call__(self, event: Event) -> None:
        """Record how the steps of a training are taken."""
        if isinstance(event, TrainingStepped):
            self._last[event.task] = event

    def to_json(self) -> list[dict[str, Any]]:
        """Return the ways in which steps were taken, the most frequent first, with the number of `trainings` for each."""
        counts = Counter(tuple(getattr(event, name) for name in _FIELDS) for event in self._last.values())
        found = []
        for values, count in counts.most_common():
            found.append({**dict(zip(_FIELDS, values, strict=True)), "trainings": count})
        return found

    def sentence(self) -> str:
        """Return the number of trainings by manner, and why steps were not captured or compiled.

        It is empty if all steps were eager and nothing else was tried, as on the CPU.
        """
        manners: Counter[str] = Counter(event.manner for event in self._last.values())
        reasons = Counter(event.fallback for event in self._last.values() if event.fallback)
        if set(manners) <= {"eager"} and not reasons:
            return ""
        parts: list[str] = []
        for manner in ("compiled", "captured", "eager"):
            if manners[manner]:
                parts.append(self._part(manner, manners[manner], first=not parts))
        return f"steps: {', '.join(parts)}{_because(reasons)}"

    def _part(self, manner: str, count: int, *, first: bool) -> str:
        """Return a part such as `12 trainings captured (5 at once)`; `trainings` is in the first one only."""
        noun = ""
        if first:
            noun = "trainings " if count > 1 else "training "
        together = max(event.siblings for event in self._last.values() if event.manner == manner)
        at_once = ""
        if manner != "eager" and together > 1:  # eager siblings take their steps in turn
            at_once = f" (up to {together} at once)"
        return f"{count} {noun}{manner}{at_once}"


def _because(reasons: Counter[str]) -> str:
    """Return the most frequent reason; `run.json` has the others."""
    if not reasons:
        return ""
    [(reason, _)] = reasons.most_common(1)
    more = len(reasons) - 1
    if more:
        reason = f"{reason} (and {more} more reason{'s' if more > 1 else ''}: run.json)"
    return f": {reason}"
