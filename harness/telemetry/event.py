"""The base class of all events. The kinds of events are in `events` and `worker_events`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of all events.

    `event` is the name of the kind. `time` is in seconds since 1970. `folder` is the run's folder; lines of `events.jsonl` do
    not contain it.
    """

    event: str
    time: float = field(default_factory=time.time)
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON, as `events.jsonl` contains it."""
        values = asdict(self)
        del values["folder"]
        return values
