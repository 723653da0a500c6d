"""The engine `slurm`: workers as jobs of a Slurm cluster. It needs Slurm's commands, and a file system that all nodes share."""

from __future__ import annotations

from collections.abc import Callable

from harness import Engine, hookimpl
from harness_slurm.engine import SlurmEngine


@hookimpl
def register_engines(register: Callable[[type[Engine]], None]) -> None:
    """Register the engine."""
    register(SlurmEngine)
