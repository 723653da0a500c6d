"""The context that all parts of a run share: plugins, folders, device, events."""

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
    """The context of a run or a worker, in one process.

    `store` and `data` are the store's folder and the data root. `device` is `auto`, `cpu`, `cuda` or `cuda:INDEX`. `emit` is
    called with every event. `stopping()` is True once the run must save and stop. `threads` is the number of CPU threads per
    task; it affects rounding, so it does not depend on the number of free cores. A training's state is saved at the end of
    an epoch if the last save is more than `save_every` seconds ago. `watch` measures this process's seconds by phase.
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
