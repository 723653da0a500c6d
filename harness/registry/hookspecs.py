"""The hooks. Entry points in group `harness` name plugin modules; these implement hooks with `@harness.hookimpl`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from harness.api.builder import EnsembleBuilder
    from harness.api.figure import Figure
    from harness.api.interfaces import Architecture, Dataset, Derivation, Metric, Objective
    from harness.telemetry.events import Event

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_ensemble_builders(register: Callable[[type[EnsembleBuilder]], None]) -> None:
    """Call `register(cls)` for every ensemble builder. Called once, when the catalogue is made."""


@hookspec
def register_architectures(register: Callable[[type[Architecture]], None]) -> None:
    """Call `register(cls)` for every architecture. Called once, when the catalogue is made."""


@hookspec
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Call `register(cls)` for every data set. Called once, when the catalogue is made."""


@hookspec
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Call `register(cls)` for every metric. Called once, when the catalogue is made."""


@hookspec
def register_objectives(register: Callable[[type[Objective]], None]) -> None:
    """Call `register(cls)` for every training objective. Called once, when the catalogue is made."""


@hookspec
def register_derivations(register: Callable[[type[Derivation]], None]) -> None:
    """Call `register(cls)` for every derivation of weights from weights. Called once, when the catalogue is made."""


@hookspec
def register_engines(register: Callable[[type], None]) -> None:
    """Call `register(cls)` for every engine. Called once, when the catalogue is made."""


@hookspec
def register_figures(register: Callable[[type[Figure]], None]) -> None:
    """Call `register(cls)` for every figure, in the order of the report. Called once, when the catalogue is made."""


@hookspec
def observe_event(event: Event) -> None:
    """Observe an event of a run or a task as it happens: an instance of one of the classes of `harness.events`.

    Called in the process that runs the benchmark, which waits for it. An observer that raises is reported once and gets no more
    events; it never stops the run.
    """
