"""`harness doctor`: what a run would use here, and what is wrong with it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from harness.cli.arguments import data_option, open_catalogue, store_option
from harness.errors import HarnessError
from harness.execution.data_root import NO_DATA_ROOT
from harness.execution.engines.cpu_count import count_cpus
from harness.runs.places import data_folder, store_folder


@click.command()
@store_option
@data_option
def doctor(store: Path | None, data: Path | None) -> None:
    """Print packages, plugins, devices, store and data root, with what is wrong; then the exit code is 1."""
    import torch

    from harness import kernels
    from harness.execution.device_inventory import TorchDevices
    from harness.execution.device_report import device_report
    from harness.telemetry.provenance import provenance

    facts = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    click.echo(f"packages  python {facts['python']}, {versions}")
    catalogue = open_catalogue()
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
        click.echo(f"store     {_describe_store(store_folder(store))}")
    except HarnessError as error:
        problems += 1
        click.echo(f"store     {error}")
    click.echo(f"data      {_describe_data(data_folder(data))}")
    sys.exit(1 if problems else 0)


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
