"""Runs of toys in other processes, which a test may end at any time. They are forked from a server that has imported torch."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401 - torch.manual_seed would import it in every process

import toys
from conftest import RECIPE, toy_file
from faults.bad_disk import BadDisk
from harness import files as disk_files
from harness.benchmark import load_benchmark
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.run_plan import RunPlan
from harness.execution.runner import Runner
from harness.execution.stopping import Stopper
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.store import Store
from harness.telemetry.event_log import EventLog

SMALL: dict[str, Any] = {
    "members": 2,
    "methods": ["deep", {"constrained": {"fork_epoch": 1}}, "permuted", {"distilled": {"fork_epoch": 1}}],
    "metrics": ["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}],
    "recipe": {**RECIPE, "epochs": 3, "batch_size": 32},
}
"""A benchmark with all kinds of tasks, which takes a second."""

DIGITS: dict[str, Any] = {
    "name": "small",
    "seeds": [0],
    "members": 2,
    "datasets": [{"digits": {"train_size": 192, "test_size": 100}}],
    "architectures": [{"resnet20": {"width": 0.125}}],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
    "recipe": {"epochs": 2, "batch_size": 64, "augmentation": {"crop_padding": 1, "horizontal_flip": False}},
}
"""A benchmark of installed plugins for `harness run`, which takes seconds."""

_SERVER = multiprocessing.get_context("forkserver")


def some(cases: Iterable[Any], every: int) -> list[Any]:
    """Return the cases of a test, of which all but each n-th have the marks `slow` and `faults`."""
    found = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        marks = [] if number % every == 0 else [pytest.mark.slow, pytest.mark.faults]
        found.append(pytest.param(*values, marks=marks))
    return found


def graph_in(folder: Path, **changes: Any) -> Graph:
    """Plan the small benchmark, with changes."""
    return plan(load_benchmark(toy_file(folder, **{**SMALL, **changes}), toys.catalogue()))


def run_here(folder: Path, store: Path | None = None, out: str = "out", save_every: float = 0.0, **changes: Any) -> int:
    """Run the small benchmark, with changes, as `harness run` does; return the exit code.

    By default the training state is saved after every epoch.
    """
    (folder / out).mkdir(exist_ok=True)
    opened = Store(store or folder / "store")
    opened.prepare()
    log = EventLog(folder / out / "events.jsonl", {})
    with Stopper(quiet=True) as stopper:
        context = RunContext(toys.catalogue(), opened.root, folder, "cpu", log, stopper.stopping, save_every=save_every)
        engine = LocalEngine(LocalEngine.Options(workers=1))
        try:
            state = Runner(RunPlan(graph_in(folder, **changes)), opened, engine, context, folder / out).run()
        except Interrupted:
            return stopper.exit_code
        finally:
            log.close()
    return int(bool(state.failures))


def start_server() -> None:
    """Start the fork server, with this module imported, unless it runs already."""
    path = os.environ.get("PYTHONPATH")
    tests = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = tests if path is None else f"{tests}{os.pathsep}{path}"
    try:
        _SERVER.set_forkserver_preload(["faults.rig"])
        forkserver.ensure_running()
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def in_process(do: Callable[..., int], *args: Any, **kwargs: Any) -> Any:
    """Start a function in another process, which exits with the code that it returns; return the process."""
    start_server()
    process = _SERVER.Process(target=_child, args=(do, args, kwargs), daemon=True)
    process.start()
    return process


def _child(do: Callable[..., int], args: tuple, kwargs: dict[str, Any]) -> None:
    code = do(*args, **kwargs)
    gc.collect()  # closes the store, as the end of an interpreter does
    sys.exit(code)


def run_on(folder: Path, at: int, crash: str, power_cut: bool) -> int:
    """Run the small benchmark with its store on a bad disk; return the exit code."""
    disk_files.os = BadDisk(at, crash, power_cut=power_cut, under=folder / "store")  # type: ignore[assignment]
    return run_here(folder)


def contents(store: Store) -> dict[str, Any]:
    """Return by key what is equal in all runs: digests of tensors, measured values, histories without seconds."""
    found: dict[str, Any] = {}
    for key in list(store.keys()):
        meta = store.meta(key)
        history = [{**record, "seconds": 0} for record in meta.get("history", [])]
        files = {part: file["sha256"] for part, file in meta["files"].items()}
        found[key] = (files, meta.get("values"), history)
    return found


def temporary_files(store: Store) -> list[str]:
    """Return the files of staging areas, leases and training states, which no finished run leaves."""
    gc.collect()  # a store without references removes its staging area
    found = list((store.base / "progress").glob("*/*"))
    for folder in ("aside", "leases", "progress"):
        found += [path for path in (store.base / folder).rglob("*") if not path.is_dir()]
    return [str(path.relative_to(store.base)) for path in found if path.name != "gate.lock"]


def events(folder: Path, kind: str, out: str = "out") -> list[dict[str, Any]]:
    """Return the events of a kind that the runs of a folder have logged; incomplete lines are skipped."""
    found = []
    path = folder / out / "events.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event["event"] == kind:
            found.append(event)
    return found


def check_same(folder: Path, uninterrupted: Path) -> None:
    """Assert that a folder's store and rows equal those of an uninterrupted run to the bit, without temporary files."""
    store = Store(folder / "store")
    assert list(store.maintenance.find_corruption()) == []
    assert temporary_files(store) == []
    assert contents(store) == contents(Store(uninterrupted / "store"))
    assert (folder / "out" / "results.csv").read_bytes() == (uninterrupted / "out" / "results.csv").read_bytes()
    assert list((folder / "out").glob(".*")) == []


def epochs_repeated(folder: Path) -> int:
    """Return how many epochs were trained more than once."""
    times = Counter((event["task"], event["epoch"]) for event in events(folder, "epoch"))
    return sum(count - 1 for count in times.values())
