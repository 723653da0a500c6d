"""What the parts of a run share: the plugins, the folders, the device, and where events go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.execution.siblings import SiblingPolicy
from harness.registry.catalogue import Catalogue
from harness.telemetry.events import Event
from harness.telemetry.stopwatch import Stopwatch


@dataclass(frozen=True)
class RunContext:
    """What a run and its workers need to know, in one process.

    `emit` gets every event. `stopping` returns True once the run must save and stop. `threads` are the CPU threads of each
    task: part of the numerics, so never the number of cores that happen to be free. `save_every` are the seconds after which a
    training's state is saved at the next end of an epoch. `watch` measures what this process's time is spent on.
    """

    catalogue: Catalogue
    store: Path
    data: Path
    device: str
    emit: Callable[[Event], None]
    stopping: Callable[[], bool]
    threads: int = 1
    watch: Stopwatch = field(default_factory=Stopwatch)
    save_every: float = 60.0
    siblings: SiblingPolicy = field(default_factory=SiblingPolicy)
