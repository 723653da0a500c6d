"""`harness run`: does what is missing, writes DIR, prints the board."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.arguments import (
    data_folder,
    data_option,
    file_argument,
    open_benchmark,
    set_option,
    store_folder,
    store_option,
)
from harness.cli.progress import progress
from harness.cli.stopping import Stopper
from harness.errors import Interrupted, UserError

if TYPE_CHECKING:
    from harness.catalogue import Catalogue
    from harness.graph import Graph
    from harness.interfaces import Engine
    from harness.runner import Ledger


@click.command()
@file_argument
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Where rows and board go; default: runs/NAME.")
@store_option
@data_option
@click.option("--engine", "engine_name", metavar="NAME", default="local", show_default=True, help="Who does the work.")
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="Processes of the local engine; default: one per CUDA device or CPU core.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="CPU threads of each task.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute.")
@set_option
def run(
    file: Path,
    out: Path | None,
    store: Path | None,
    data: Path | None,
    engine_name: str,
    workers: int | None,
    threads: int,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Run a benchmark: train what is missing, measure, and print the board.

    What was computed before, by this or any other run on the same store, is not computed again; the same command resumes
    after an interruption.
    """
    benchmark, catalogue = open_benchmark(file, overrides)  # before torch is imported: mistakes are told at once

    from harness.graph import plan
    from harness.interfaces import Session
    from harness.runner import EventLog, Runner
    from harness.store import Store, sweep
    from harness.worker import resolve_device

    device = resolve_device(device)
    engine = _engine(catalogue, engine_name, workers)
    graph = plan(benchmark)
    shelf = Store(store_folder(store))
    sweep(shelf)
    folder = _folder(out or Path("runs") / benchmark.name)
    with progress(graph) as show, Stopper() as stopper:
        log = EventLog(folder / "events.jsonl", {"progress": show, **catalogue.observers})
        session = Session(catalogue, shelf.root, data_folder(data), device, log, stopper.stopping, threads)
        runner = Runner(graph, shelf, engine, session, folder)
        log({"event": "run_started", "time": time.time(), "benchmark": benchmark.name, "command": sys.argv})
        status = "interrupted"
        try:
            ledger = runner.run()
            status = "failed" if ledger.failures else "done"
        except Interrupted:
            ledger = runner.ledger
        log({"event": "run_ended", "time": time.time(), "status": status})
        log.close()
    _write(folder, graph, ledger, status, shelf.root, device)
    if status == "interrupted":
        click.echo(f"interrupted; what was computed is saved. To go on:\n  {_again()}", err=True)
        sys.exit(stopper.exit_code)
    _report(folder, graph, ledger)
    sys.exit(1 if status == "failed" else 0)


def _engine(catalogue: Catalogue, name: str, workers: int | None) -> Engine:
    cls = catalogue.get("engine", name)
    if workers is None:
        return catalogue.create("engine", name)
    if "workers" not in cls.Options.model_fields:
        raise UserError(f"--workers: engine '{name}' has no such option")
    return catalogue.create("engine", name, cls.Options.model_validate({"workers": workers}))


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "events.jsonl").open("a").close()
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {error.strerror}; choose another folder") from None
    return folder


def _write(folder: Path, graph: Graph, ledger: Ledger, status: str, store: Path, device: str) -> None:
    """Write `run.json` and `leaderboard.md` beside the rows."""
    from harness.leaderboard import board, render
    from harness.provenance import provenance
    from harness.results import read_rows, write_atomically
    from harness.runner import failures, members

    facts = {
        "benchmark": graph.benchmark.resolved(),
        "status": status,
        "failures": failures(graph, ledger),
        "epochs_trained": ledger.trained,
        "store": str(store.resolve()),
        "device": device,
        "command": sys.argv,
        "provenance": provenance(),
        "members": members(graph),
    }
    write_atomically(folder / "run.json", json.dumps(facts, indent=1))
    write_atomically(folder / "leaderboard.md", render(board({str(folder): read_rows(folder)}), "markdown"))


def _report(folder: Path, graph: Graph, ledger: Ledger) -> None:
    click.echo((folder / "leaderboard.md").read_text(encoding="utf-8"))
    if not ledger.done and not ledger.failures:
        click.echo(f"nothing to train: all {len(graph.tasks)} tasks were in the store")
    else:
        click.echo(f"did {ledger.done} tasks, {ledger.trained:g} epochs of training; rows and board are in {folder}")
    for message in sorted(set(ledger.failures.values())):
        click.echo(f"failed: {message}", err=True)


def _again() -> str:
    """Return the command that was typed."""
    program = Path(sys.argv[0]).name
    return shlex.join(["harness" if program in ("__main__.py", "harness") else program, *sys.argv[1:]])
