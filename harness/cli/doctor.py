"""`harness doctor`: what a run would use here, and what is wrong with it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.arguments import data_option, open_catalogue, store_option
from harness.cli.engine_options import parse_engine_options
from harness.cli.paths import UserPath
from harness.errors import HarnessError, Interrupted
from harness.execution.data_root import NO_DATA_ROOT
from harness.execution.engines.cpu_count import count_cpus
from harness.execution.stopping import Stopper
from harness.runs.engine import make_engine
from harness.runs.places import data_folder, store_folder

if TYPE_CHECKING:
    from harness.api.engine import Engine
    from harness.registry.catalogue import Catalogue


@click.command()
@store_option
@data_option
@click.option("--engine", "engine_name", metavar="NAME", help="Also start one worker with this engine, and tell what it sees.")
@click.option("--engine-option", "engine_options", metavar="KEY=VALUE", multiple=True, help="Set an option of the engine.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Device of the worker.")
@click.option(
    "--out", metavar="DIR", type=UserPath(), default="runs/doctor", show_default=True, help="Where the engine writes its logs."
)
def doctor(
    store: Path | None, data: Path | None, engine_name: str | None, engine_options: tuple[str, ...], device: str, out: Path
) -> None:
    """Print packages, plugins, device, store and data root, with what is wrong; then the exit code is 1.

    With --engine, one worker is started, and its code, device, locks, clock and data are compared with this machine's.
    """
    catalogue = open_catalogue()
    engine: Engine | None = None
    if engine_name is not None:
        engine = make_engine(catalogue, engine_name, parse_engine_options(engine_options), {})
    problems = _describe_machine(catalogue, store_folder(store), data_folder(data))
    if engine is not None:
        problems += _try_engine(engine, catalogue, _Folders(store_folder(store), data_folder(data), out), device)
    sys.exit(1 if problems else 0)


def _describe_machine(catalogue: Catalogue, store: Path, data: Path) -> int:
    """Print what this process has; return the number of problems."""
    import torch

    from harness import kernels
    from harness.execution.device_inventory import TorchDevices
    from harness.execution.device_report import device_report
    from harness.telemetry.provenance import provenance

    facts = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    click.echo(f"packages  python {facts['python']}, {versions}")
    sources = [f"{source.plugin} ({source.distribution})" for source in catalogue.sources]
    click.echo(f"plugins   {', '.join(sources)}")
    for label, text in device_report(TorchDevices()):
        click.echo(f"{label:<10}{text}")
    if torch.cuda.is_available():
        click.echo(f"kernels   {kernels.describe('cuda')}")
    click.echo(f"cpu       {facts['processor']}, {facts['threads']} threads")
    click.echo(f"workers   {count_cpus().describe()}")
    problems = len(catalogue.problems)
    try:
        click.echo(f"store     {_describe_store(store)}")
    except HarnessError as error:
        problems += 1
        click.echo(f"store     {error}")
    click.echo(f"data      {_describe_data(data)}")
    return problems


@dataclass(frozen=True)
class _Folders:
    store: Path
    data: Path
    out: Path


def _try_engine(engine: Engine, catalogue: Catalogue, folders: _Folders, device: str) -> int:
    """Start a worker, and print what it sees; return the number of problems."""
    from harness.execution.device import resolve_device
    from harness.runs.engine_check import EngineTrial, Finding, try_engine

    problems = 0

    def say(finding: Finding) -> None:
        nonlocal problems
        problems += finding.is_problem
        mark = "problem: " if finding.is_problem else ""
        click.echo(f"{finding.subject:<9} {mark}{finding.text}")

    with Stopper() as stopper:
        device = engine.device_for(device) or resolve_device(device)
        trial = EngineTrial(engine, catalogue, folders.store, folders.data, folders.out, device, stopper.stopping)
        try:
            try_engine(trial, say)
        except Interrupted:
            sys.exit(stopper.exit_code)
    return problems


def _describe_store(folder: Path) -> str:
    """Return the number of objects and the free disk space. Raise `HarnessError` for an unreadable store."""
    from harness.store import Store

    count = 0
    disk = Path.cwd()
    if folder.is_dir():
        count = len(Store(folder).keys())
        disk = folder
    free = shutil.disk_usage(disk).free / 2**30
    return f"{folder}: {count} objects, {free:.0f} GiB free"


def _describe_data(root: Path) -> str:
    if root == NO_DATA_ROOT:
        return "no data root, since there is no home folder; name one with --data or HARNESS_DATA"
    names: list[str] = []
    try:
        if root.is_dir():
            names = sorted(entry.name for entry in root.iterdir())
    except OSError as error:
        return f"{root}: cannot be read: {error.strerror}; name another folder with --data or HARNESS_DATA"
    return f"{root}: {', '.join(names) or 'nothing there yet; docs/data.md says what goes where'}"
