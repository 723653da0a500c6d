"""From options to a finished run: what `harness run`, `harness.run` and the fixture `harness_run` have in common."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.benchmark import Benchmark
from harness.errors import UserError
from harness.execution.run_folder import check_places
from harness.execution.stopping import Stopper
from harness.registry.catalogue import Catalogue, Observer
from harness.runs.engine import make_engine
from harness.runs.observers import Named, choose_observers, observing
from harness.runs.places import data_folder, expanded, store_folder
from harness.runs.progress import progress
from harness.telemetry.profile import Profile, summarize
from harness.telemetry.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harness.execution.run_benchmark import FinishedRun
    from harness.execution.run_plan import RunPlan

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """The options of `harness run`.

    Only `device` and `threads` can change results: by rounding, and with `precision: auto` by the device's precision, which is
    part of the keys.

    `out`, `store` and `data` are folders, None for their defaults. `engine_options` are the engine's, `workers` and
    `task_timeout` (seconds) those of the local engine. `profile` writes `profile.json`. `observers` see every event, by name.
    `observe` names registered observers beside those of the benchmark.
    """

    out: str | Path | None = None
    store: str | Path | None = None
    data: str | Path | None = None
    engine: str = "local"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    task_timeout: float | None = None
    profile: bool = False
    threads: int = 1
    device: str = "auto"
    progress: bool = True
    observers: Mapping[str, Observer] = field(default_factory=dict)
    observe: Sequence[Named] = ()
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))


def start(
    benchmark: Benchmark,
    catalogue: Catalogue,
    options: RunOptions,
    stopper: Stopper,
    say: Say,
    watch: Stopwatch | None = None,
) -> FinishedRun:
    """Do what the store lacks of a benchmark; keep rows, board and `run.json` in the run's folder up to date.

    `say` gets lines for the user. Raise `UserError` for what the user can fix before anything is done, and its subclass
    `RunStopped` if the store or the folder cannot be written any more.
    """
    folder = Path("runs") / benchmark.name if options.out is None else expanded(str(options.out), "out")
    store, data = store_folder(options.store), data_folder(options.data)
    default_name = benchmark.name if options.out is None else ""
    check_places(folder, store, data, named=default_name)
    own = {"workers": options.workers, "task_timeout": options.task_timeout}
    engine = make_engine(catalogue, options.engine, options.engine_options, own)
    named = choose_observers(catalogue, benchmark, options.observe)

    from harness.execution.run_benchmark import RunSettings, run_benchmark  # torch: after the mistakes that need none

    @contextlib.contextmanager
    def observers(plan: RunPlan) -> Iterator[Mapping[str, Observer]]:
        with observing(named, benchmark, folder, say) as threads, _observers(folder, plan, options, say) as found:
            yield {**found, **threads}

    settings = RunSettings(
        folder=folder,
        store=store,
        data=data,
        engine=engine,
        device=options.device,
        threads=options.threads,
        stopping=stopper.stopping,
        say=say,
        observers=observers,
        command=options.command,
    )
    return run_benchmark(benchmark, catalogue, settings, watch)


@contextlib.contextmanager
def _observers(folder: Path, plan: RunPlan, options: RunOptions, say: Say) -> Iterator[dict[str, Observer]]:
    """Yield the observers of a run; show progress during it, and write a profile at its end, if asked for."""
    found = dict(options.observers)
    with contextlib.ExitStack() as stack:
        if options.progress:
            found["progress"] = stack.enter_context(progress(plan))
        if options.profile:
            profile = Profile(os.getpid())
            found["profile"] = profile
            stack.callback(_write_profile, folder, profile, say)
        yield found


def _write_profile(folder: Path, profile: Profile, say: Say) -> None:
    from harness.files import write_atomically

    report = profile.report(time.time())
    try:
        write_atomically(folder / "profile.json", json.dumps(report, indent=1))
    except UserError as error:  # such as a full disk, which must not hide an error of the run
        say(f"warning: {error}")
    say(f"profile: {summarize(report)}")
