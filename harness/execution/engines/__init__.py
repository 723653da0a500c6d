"""The engines of the harness, registered by an entry point like those of any plugin."""

from __future__ import annotations

from collections.abc import Callable

from harness.api.engine import Engine
from harness.execution.engines.local import LocalEngine
from harness.registry.hookspecs import hookimpl


@hookimpl
def register_engines(register: Callable[[type[Engine]], None]) -> None:
    """Register the local engine."""
    register(LocalEngine)
