"""`harness doctor`: is everything there that a run needs?"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from harness.cli.arguments import data_folder, data_option, open_catalogue, store_folder, store_option
from harness.errors import HarnessError
from harness.execution.data_root import NO_DATA_ROOT
from harness.execution.engines.cpu_count import count_cpus


@click.command()
@store_option
@data_option
def doctor(store: Path | None, data: Path | None) -> None:
    """Look at plugins, device, store and data root, and say what is wrong; exit code 1 if anything is."""
    import torch

    from harness.store import Store
    from harness.telemetry.provenance import provenance

    wrong = 0
    facts = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    click.echo(f"packages  python {facts['python']}, {versions}")
    catalogue = open_catalogue()
    wrong += len(catalogue.problems)
    sources = sorted({f"{r.source.plugin} ({r.source.distribution})" for r in catalogue})
    click.echo(f"plugins   {', '.join(sources)}")
    device = facts["device"] if torch.cuda.is_available() else "no CUDA device; runs go to the CPU"
    click.echo(f"device    {device}; {facts['processor']}, {facts['threads']} threads")
    click.echo(f"workers   {count_cpus().describe()}")
    folder = store_folder(store)
    try:
        count = len(list(Store(folder).keys())) if folder.is_dir() else 0
        free = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free / 2**30
        click.echo(f"store     {folder}: {count} objects, {free:.0f} GiB free")
    except HarnessError as error:
        wrong += 1
        click.echo(f"store     {error}")
    click.echo(f"data      {_data(data_folder(data))}")
    sys.exit(1 if wrong else 0)


def _data(root: Path) -> str:
    if root == NO_DATA_ROOT:
        return "no data root, since there is no home folder; name one with --data or HARNESS_DATA"
    try:
        there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    except OSError as error:
        return f"{root}: cannot be read: {error.strerror}; name another folder with --data or HARNESS_DATA"
    return f"{root}: {', '.join(there) or 'nothing there yet; docs/data.md says what goes where'}"
