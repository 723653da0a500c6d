"""The engine `ray`: workers as actors of a Ray cluster, or of one that it starts on this machine."""

from __future__ import annotations

from collections.abc import Callable

from harness import Engine, hookimpl
from harness_ray.engine import RayEngine


@hookimpl
def register_engines(register: Callable[[type[Engine]], None]) -> None:
    """Register the engine."""
    register(RayEngine)
