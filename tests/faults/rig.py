"""Runs of toys in processes of their own, which may be ended at any moment. A fork server has torch imported already."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401 - which torch.manual_seed imports

import toys
from conftest import RECIPE, toy_file
from faults.bad_disk import BadDisk
from harness import files as disk_files
from harness.benchmark import load_benchmark
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
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
"""A benchmark in which all kinds of tasks occur, of a second."""

_SERVER = multiprocessing.get_context("forkserver")


def some(cases: Iterable[Any], every: int) -> list[Any]:
    """Return cases of a test, all but each n-th of them left for when faults are asked for."""
    rest = [pytest.mark.slow, pytest.mark.faults]
    listed = (case if isinstance(case, tuple) and not hasattr(case, "_fields") else (case,) for case in cases)
    return [pytest.param(*case, marks=[] if i % every == 0 else rest) for i, case in enumerate(listed)]


def graph_in(folder: Path, **changes: Any) -> Graph:
    """Plan the small benchmark, with changes."""
    return plan(load_benchmark(toy_file(folder, **{**SMALL, **changes}), toys.catalogue()))


def run_here(folder: Path, store: Path | None = None, out: str = "out", save_every: float = 0.0, **changes: Any) -> int:
    """Run the small benchmark as `harness run` does, and return its exit code; states are saved after every epoch."""
    (folder / out).mkdir(exist_ok=True)
    shelf = Store(store or folder / "store")
    shelf.prepare()
    log = EventLog(folder / out / "events.jsonl", {})
    with Stopper(quiet=True) as stopper:
        session = RunContext(toys.catalogue(), shelf.root, folder, "cpu", log, stopper.stopping, save_every=save_every)
        engine = LocalEngine(LocalEngine.Options(workers=1))
        try:
            ledger = Runner(graph_in(folder, **changes), shelf, engine, session, folder / out).run()
        except Interrupted:
            return stopper.exit_code
        finally:
            log.close()
    return 1 if ledger.failures else 0


def start_server() -> None:
    """Start the server, with this file and all that it needs imported; it does not see the tests' folder by itself."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), *([path] if path else [])])
    try:
        _SERVER.set_forkserver_preload(["faults.rig"])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


def in_process(do: Callable[..., int], *args: Any, **kwargs: Any) -> Any:
    """Start a function in a process of its own, which exits with what it returns."""
    start_server()
    process = _SERVER.Process(target=_child, args=(do, args, kwargs), daemon=True)
    process.start()
    return process


def _child(do: Callable[..., int], args: tuple, kwargs: dict[str, Any]) -> None:
    code = do(*args, **kwargs)
    gc.collect()  # lets go of the store, as the end of the interpreter does
    sys.exit(code)


def run_on(folder: Path, at: int, crash: str, power_cut: bool) -> int:
    """Run with the store on a bad disk."""
    disk_files.os = BadDisk(at, crash, power_cut=power_cut, under=folder / "store")  # type: ignore[assignment]
    return run_here(folder)


def contents(store: Store) -> dict[str, Any]:
    """Return what a store holds that does not differ from run to run: digests of tensors, values, histories but for seconds."""
    found: dict[str, Any] = {}
    for key in list(store.keys()):
        meta = store.meta(key)
        history = [{k: v for k, v in record.items() if k != "seconds"} for record in meta.get("history", [])]
        files = {part: file["sha256"] for part, file in meta["files"].items()}
        found[key] = files, meta.get("values"), history
    return found


def leftovers(store: Store) -> list[str]:
    """Return what no finished run leaves behind."""
    gc.collect()  # a store that nobody holds any more tidies up after itself
    rooms = [path for room in ("aside", "leases", "progress") for path in (store.base / room).rglob("*") if not path.is_dir()]
    states = list((store.base / "progress").glob("*/*"))
    return [str(path.relative_to(store.base)) for path in [*rooms, *states] if path.name != "gate.lock"]


def events(folder: Path, kind: str, out: str = "out") -> list[dict[str, Any]]:
    """Return the events of a kind that the runs of a folder have logged; half lines are passed over."""
    import json

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


def check_same(folder: Path, undisturbed: Path) -> None:
    """Assert that a folder's store and rows are those of an undisturbed run, to the bit, and that nothing is left over."""
    store, whole = Store(folder / "store"), Store(undisturbed / "store")
    assert not (found := list(store.maintenance.find_corruption())), found
    assert not (rest := leftovers(store)), rest
    assert contents(store) == contents(whole)
    assert (folder / "out" / "results.csv").read_bytes() == (undisturbed / "out" / "results.csv").read_bytes()
    assert list((folder / "out").glob(".*")) == []


def epochs_repeated(folder: Path) -> int:
    """Return how many epochs were trained more than once."""
    return sum(count - 1 for count in Counter((e["task"], e["epoch"]) for e in events(folder, "epoch")).values())


def digest(path: Path) -> str:
    """Return a file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pid_of(process: Any) -> int:
    """Return a process's id."""
    assert process.pid is not None
    return process.pid


os.environ.setdefault("OMP_NUM_THREADS", "1")
