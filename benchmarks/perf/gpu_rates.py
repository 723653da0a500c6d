"""Images per second of a run, from the events of its epochs, beside those of the ladder. Imports the standard library alone."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from json_lines import Line, read_lines


@dataclass
class _Group:
    """Epochs that were trained at the same time: from `start` to `end`, in seconds since 1970, by `siblings` trainings."""

    start: float
    end: float
    siblings: int
    objective: str

    def overlaps(self, event: Line) -> bool:
        """Return whether more than half of an epoch's time overlaps with this group's."""
        common = min(self.end, event["time"]) - max(self.start, event["time"] - event["seconds"])
        return self.objective == event["objective"] and common > event["seconds"] / 2

    def add(self, event: Line) -> None:
        """Add an epoch."""
        self.start = min(self.start, event["time"] - event["seconds"])
        self.end = max(self.end, event["time"])
        self.siblings += 1


def rates(folder: Path, images: int) -> dict[str, float]:
    """Return the median images per second of a run by objective and number of siblings; `images` are those of an epoch.

    A group's first epoch is left out if there are others: it contains the capturing and compiling.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for group in _groups(folder):
        rate = group.siblings * images / max(group.end - group.start, 1e-3)
        found[f"{group.objective}, siblings: {group.siblings}"].append(rate)
    return {name: round(statistics.median(values[1:] or values), 1) for name, values in found.items()}


def _groups(folder: Path) -> list[_Group]:
    groups: list[_Group] = []
    for event in read_lines(folder / "events.jsonl"):
        if event.get("event") != "epoch":
            continue
        if groups and groups[-1].overlaps(event):
            groups[-1].add(event)
        else:
            groups.append(_Group(event["time"] - event["seconds"], event["time"], 1, event["objective"]))
    return groups


def ladder_rates(path: Path) -> dict[str, float]:
    """Return the ladder's images per second by group and rung, of those groups whose steps a run takes."""
    found = {}
    for line in read_lines(path):
        if line["status"] == "measured" and line["group"] in ("resnet20", "distilled"):
            found[f"{line['group']}: {line['rung']}"] = round(line["images_per_second"], 1)
    return found


def compared(folder: Path, images: int, ladder: Path) -> dict[str, Any]:
    """Return the rates of a run and of the ladder, for the line of the part."""
    return {"images_per_second": rates(folder, images), "ladder": ladder_rates(ladder)}
