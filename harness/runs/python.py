"""`harness.run`: a benchmark run from Python, in a script or a notebook."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.benchmark import load_benchmark
from harness.errors import UserError
from harness.execution.stopping import Stopper
from harness.registry.catalogue import Catalogue, Observer, load_catalogue
from harness.runs.durations import seconds_of
from harness.runs.observers import Named
from harness.runs.run import Run
from harness.runs.start import RunOptions, start


def run(
    benchmark: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    data: str | Path | None = None,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - as the command calls it
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    task_timeout: float | None = None,
    time_limit: str | float | None = None,
    profile: bool = False,
    threads: int = 1,
    device: str = "auto",
    progress: bool = True,
    observers: Mapping[str, Observer] | None = None,
    observe: Sequence[Named] = (),
    catalogue: Catalogue | None = None,
) -> Run:
    """Run a benchmark and return the run: train what the store lacks, measure, write rows and board.

        run = harness.run("benchmarks/quickstart.yaml", out="runs/quickstart", workers=1)
        run = harness.run({"seeds": [0], "datasets": ["digits"], "architectures": ["vit"], "methods": ["deep"]})

    The options are those of `harness run`:

    - `benchmark`: the path of a benchmark file, or a mapping with the same keys.
    - `out`, `store`, `data`: folders; by default `runs/NAME`, `runs/store` and the user's cache folder.
    - `set`: changes of the benchmark, `{"recipe.epochs": 3}` or `["recipe.epochs=3"]`.
    - `engine`, `engine_options`: the engine and its options; `workers` and `task_timeout` (seconds) are the local engine's.
    - `time_limit`: save and return before so much time has passed (`"25m"`, or seconds). The same call resumes.
    - `profile`: write where the time went to `profile.json`.
    - `threads`: CPU threads of each task. `device`: auto, cpu, cuda or cuda:INDEX.
    - `progress`: show progress. `observers`: functions that see every event (`harness.events`), by name.
    - `observe`: registered observers beside those of the benchmark, by name: `["tensorboard", {"wandb": {"project": "p"}}]`.

    Cells that fail are in `run.failures`; the others are done. After Ctrl-C (SIGINT) everything computed is saved before
    `KeyboardInterrupt` is raised; the same call resumes. A second Ctrl-C interrupts at once. After SIGTERM and a scheduler's
    signals everything is saved, too, and `SystemExit` is raised with the command's exit code. Raise `harness.UserError` for
    what the user can fix, with the command's messages.
    """
    limit = _seconds(time_limit)
    options = RunOptions(
        out=out,
        store=store,
        data=data,
        engine=engine,
        engine_options=dict(engine_options or {}),
        workers=workers,
        task_timeout=task_timeout,
        profile=profile,
        threads=threads,
        device=device,
        progress=progress,
        observers=dict(observers or {}),
        observe=observe,
    )
    with Stopper(limit=limit, end_process=False) as stopper:
        known = catalogue or load_catalogue()
        for problem in known.problems:
            _say(f"warning: {problem}")
        finished = start(load_benchmark(benchmark, known, _overrides(set)), known, options, stopper, _say)
    if finished.status == "interrupted":
        _say(f"{stopper.reason}; what was computed is saved. The same call resumes")
        if stopper.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if stopper.signal is not None:
            sys.exit(stopper.exit_code)
    return Run(finished.folder)


def _seconds(limit: str | float | None) -> float | None:
    if limit is None:
        return None
    seconds = seconds_of(str(limit))
    if seconds is None:
        raise UserError(f"time_limit: {limit!r} is no duration; write '25m', '1h30m', '90s', '2d' or seconds")
    return seconds


def _overrides(changes: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return changes as `KEY=VALUE` texts; JSON is YAML."""
    if not isinstance(changes, Mapping):
        return list(changes)
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
