"""What the parts of a run share: the plugins, the folders, the device, whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.registry.catalogue import Catalogue
from harness.telemetry.stopwatch import Stopwatch


@dataclass(frozen=True)
class RunContext:
    """What a run and its workers need to know, in one process.

    `threads` are the CPU threads of each task: part of the numerics, so never what happens to be free. `watch` measures what
    this process's time goes to.
    """

    catalogue: Catalogue
    store: Path
    data: Path
    device: str
    emit: Callable[[dict[str, Any]], None]
    stopping: Callable[[], bool]
    threads: int = 1
    watch: Stopwatch = field(default_factory=Stopwatch)
