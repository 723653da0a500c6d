"""The hooks that plugin modules implement with `@harness.hookimpl`. Entry points in group `harness` name these modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from harness.api.builder import EnsembleBuilder
    from harness.api.correction import Correction
    from harness.api.coupling import Coupling
    from harness.api.derivation import Derivation
    from harness.api.evaluation_set import EvaluationSet
    from harness.api.figure import Figure
    from harness.api.interfaces import Architecture, Dataset, Metric, Objective
    from harness.api.observer import Observer
    from harness.telemetry.events import Event

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_ensemble_builders(register: Callable[[type[EnsembleBuilder]], None]) -> None:
    """Call `register(cls)` for every ensemble builder. Called once, when the catalogue is loaded."""


@hookspec
def register_architectures(register: Callable[[type[Architecture]], None]) -> None:
    """Call `register(cls)` for every architecture. Called once, when the catalogue is loaded."""


@hookspec
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Call `register(cls)` for every data set. Called once, when the catalogue is loaded."""


@hookspec
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Call `register(cls)` for every metric. Called once, when the catalogue is loaded."""


@hookspec
def register_objectives(register: Callable[[type[Objective]], None]) -> None:
    """Call `register(cls)` for every training objective. Called once, when the catalogue is loaded."""


@hookspec
def register_derivations(register: Callable[[type[Derivation]], None]) -> None:
    """Call `register(cls)` for every derivation of weights from weights. Called once, when the catalogue is loaded."""


@hookspec
def register_engines(register: Callable[[type], None]) -> None:
    """Call `register(cls)` for every engine. Called once, when the catalogue is loaded."""


@hookspec
def register_figures(register: Callable[[type[Figure]], None]) -> None:
    """Call `register(cls)` for every figure, in the order of the report. Called once, when the catalogue is loaded."""


@hookspec
def register_observers(register: Callable[[type[Observer]], None]) -> None:
    """Call `register(cls)` for every observer that runs can name. Called once, when the catalogue is loaded."""


@hookspec
def register_corrections(register: Callable[[type[Correction]], None]) -> None:
    """Call `register(cls)` for every correction of mixtures. Called once, when the catalogue is loaded."""


@hookspec
def register_couplings(register: Callable[[type[Coupling]], None]) -> None:
    """Call `register(cls)` for every coupling of trainings. Called once, when the catalogue is loaded."""


@hookspec
def register_evaluation_sets(register: Callable[[type[EvaluationSet]], None]) -> None:
    """Call `register(cls)` for every evaluation set. Called once, when the catalogue is loaded."""


@hookspec
def observe_event(event: Event) -> None:
    """Observe an event of a run or a task: an instance of one of the classes in `harness.events`.

    Called for every event, in the process that runs the benchmark, which waits until the call returns. If an observer raises
    an exception, the exception is reported once, the observer gets no more events, and the run continues.
    """
