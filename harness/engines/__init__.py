"""The engines that come with the harness; registered by entry point like any other."""

from __future__ import annotations

from collections.abc import Callable

from harness.engines.local import LocalEngine
from harness.hookspecs import hookimpl
from harness.interfaces import Engine


@hookimpl
def register_engines(register: Callable[[type[Engine]], None]) -> None:
    """Register the local engine."""
    register(LocalEngine)
