"""The observers of a run: found by name before it begins, and called on threads of their own while it goes on."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.api.observer import ObservedRun, Observer, RunResults
from harness.benchmark import Benchmark
from harness.benchmark.validation import validate_options
from harness.errors import PluginError, UserError
from harness.registry.catalogue import Catalogue
from harness.telemetry.events import Event, RunEnded
from harness.text import describe_error

MAX_BACKLOG = 100_000
"""Events that an observer may be behind the run, so that one that hangs does not fill the memory."""
FINISH_SECONDS = 60.0
"""How long a run waits at its end for observers to finish."""
LEAVE_SECONDS = 5.0
"""The same for a run that was interrupted, or ends with an error: it must leave soon."""

Named = str | Mapping[str, Mapping[str, Any] | None]
"""An observer beside those of a benchmark: a name, or `{name: {option: value}}`."""


class NamedObserver(NamedTuple):
    """An observer with its registered name."""

    name: str
    observer: Observer


def choose_observers(catalogue: Catalogue, benchmark: Benchmark, named: Sequence[Named]) -> list[NamedObserver]:
    """Return the observers of a benchmark, and those named beside it, each name once. Each has been checked.

    An observer that both name has the options that are given beside it, or else those of the benchmark. Raise `UserError` for
    an unknown name, an invalid option, and an observer that cannot work here.
    """
    chosen = {labeled.label: labeled.plugin for labeled in benchmark.observers}
    for entry in named:
        name, options = _name_and_options(entry)
        if options or name not in chosen:
            chosen[name] = _create(catalogue, name, options)
    observers = [NamedObserver(name, observer) for name, observer in chosen.items()]
    for item in observers:
        _check(item)
    return observers


def _name_and_options(entry: Named) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(name, options)] = entry.items()
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, dict(options or {})
    raise UserError(f"observe: {entry!r} is no observer; a name, or {{name: {{option: value}}}}")


def _create(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> Observer:
    checked, issues = validate_options(catalogue.get("observer", name).Options, dict(options))
    if issues:
        subject = f" {issues[0].path[0]}:" if issues[0].path and not issues[0].at_key else ""
        raise UserError(f"observer '{name}':{subject} {issues[0].text}")
    try:
        observer: Observer = catalogue.create("observer", name, checked)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        raise PluginError(f"observer '{name}': it cannot be made: {describe_error(error)}") from error
    return observer


def _check(item: NamedObserver) -> None:
    try:
        item.observer.check()
    except UserError as error:
        raise UserError(f"observer '{item.name}': {error}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        raise PluginError(f"observer '{item.name}': its check fails: {describe_error(error)}") from error


@contextlib.contextmanager
def observing(
    observers: Sequence[NamedObserver], benchmark: Benchmark, folder: Path, say: Callable[[str], None]
) -> Iterator[dict[str, Callable[[Event], None]]]:
    """Yield what passes the events of a run on to observers, by name. Let them finish when the block ends.

    `say` gets a line for each observer that fails or does not finish in time, unless the event log has reported it.
    """
    if not observers:
        yield {}
        return
    run = ObservedRun(benchmark.name, benchmark.objective.full_name, folder.absolute(), benchmark.resolved())
    threads = [ObserverThread(name, observer, run) for name, observer in observers]
    end = _EndOfRun()
    complete = False
    try:
        yield {**{f"'{thread.name}'": thread for thread in threads}, "end of the run": end}
        complete = True
    finally:
        seconds = FINISH_SECONDS if complete and end.status != "interrupted" else LEAVE_SECONDS
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.end(RunResults(end.status, run.folder) if complete else None)
        for thread in threads:
            problem = thread.wait(deadline)
            if problem:
                say(f"warning: {problem}")


class _EndOfRun:
    """Notes how a run ended."""

    def __init__(self) -> None:
        self.status = "interrupted"

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self.status = event.status


class _End(NamedTuple):
    """The last item of the queue. Without results, the run has ended with an error."""

    results: RunResults | None


class ObserverThread:
    """Calls an observer on a thread of its own, so that the run does not wait for it."""

    def __init__(self, name: str, observer: Observer, run: ObservedRun) -> None:
        self.name = name
        self._observer = observer
        self._run = run
        self._queue: queue.SimpleQueue[Event | _End] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._error_is_told = False
        self._thread = threading.Thread(target=self._work, name=f"observer {name}", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Pass an event on. Raise what the observer has raised, or `PluginError` if it is too far behind."""
        if self._error is not None:
            self._error_is_told = True
            raise self._error
        if self._queue.qsize() >= MAX_BACKLOG:
            self._error_is_told = True
            raise PluginError(f"it is {MAX_BACKLOG} events behind the run")
        self._queue.put(event)

    def end(self, results: RunResults | None) -> None:
        """Let the observer finish."""
        self._queue.put(_End(results))

    def wait(self, deadline: float) -> str:
        """Wait until the observer has finished, or a time (`time.monotonic`) has come. Return what went wrong, or nothing."""
        seconds = deadline - time.monotonic()
        if self._error_is_told:
            seconds = min(seconds, LEAVE_SECONDS)
        self._thread.join(max(0.0, seconds))
        if self._error_is_told:
            return ""
        if self._error is not None:
            return f"observer '{self.name}' failed: {describe_error(self._error)}"
        if self._thread.is_alive():
            return f"observer '{self.name}' does not finish; what it has not written yet is lost"
        return ""

    def _work(self) -> None:
        try:
            self._observe()
        except BaseException as error:  # any exception, SystemExit too, must not disturb the run
            self._error = error
        try:
            self._observer.close()
        except BaseException as error:
            self._error = self._error or error

    def _observe(self) -> None:
        self._observer.start(self._run)
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                break
            self._observer.observe(item)
        if item.results is not None:
            self._observer.finish(item.results)
