"""`harness store`: verify the files of a store, remove those that no benchmark needs, and report its size."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from harness.api.specs import TrainSpec
from harness.cli.arguments import data_option, json_option, open_benchmark, store_option
from harness.cli.paths import UserPath
from harness.errors import StoreError, UserError
from harness.runs.places import data_folder, store_folder
from harness.store import Corruption, Store, Unreferenced, Usage
from harness.text import byte_count, escape_unprintable


@click.group()
def store() -> None:
    """Verify a store, prune it, or print its size."""


@store.command()
@store_option
@click.option(
    "--set-aside", "move", is_flag=True, help="Move damaged files to the folder set_aside; the next run computes them again."
)
@json_option
def verify(store: Path | None, move: bool, as_json: bool) -> None:
    """Compare every file of the store with its digest, and list those that do not match; then the exit code is 1.

    A run that finds a damaged object moves it to the folder set_aside and computes it again. Damaged files are never deleted.
    """
    opened = _open(store)
    found = []
    for corruption in opened.maintenance.find_corruption():
        moved_to = _quarantine(opened, corruption) if move else ""
        found.append({**asdict(corruption), "set_aside": moved_to})
        if not as_json:
            click.echo(escape_unprintable(_describe(corruption, moved_to)))
    count = len(opened.keys())
    if as_json:
        report = {"store": str(opened.root), "objects": count, "damaged": found}
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(f"{opened.root}: {count} objects, {len(found) or 'nothing'} damaged")
    sys.exit(1 if found else 0)


@store.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=UserPath())
@store_option
@data_option
@click.option("--yes", is_flag=True, help="Remove the files; without this option, only list them.")
@json_option
def prune(files: tuple[Path, ...], store: Path | None, data: Path | None, yes: bool, as_json: bool) -> None:
    """Remove what none of the benchmark files FILE... needs: objects, training states, and files in the folder set_aside.

    Without --yes nothing is removed. A store that a run uses is not pruned.
    """
    opened = _open(store)
    tasks, trajectories = _needed(files, data_folder(data))
    found = list(opened.maintenance.find_unreferenced(tasks, trajectories))
    if yes:
        _remove(opened, found)
    if as_json:
        report = {"store": str(opened.root), "removed": yes, "needless": _entries(opened, found)}
        click.echo(json.dumps(report, indent=1))
        return
    click.echo(_table(_by_kind(found)))
    size = byte_count(sum(entry.bytes for entry in found))
    if not found:
        click.echo(f"{opened.root}: nothing to remove")
    elif yes:
        click.echo(f"{opened.root}: removed {size}")
    else:
        click.echo(f"{opened.root}: {size} would be removed; nothing was, --yes removes it")


@store.command()
@store_option
@json_option
def du(store: Path | None, as_json: bool) -> None:
    """Print the size of the store by kind."""
    opened = _open(store)
    found = opened.maintenance.usage()
    if as_json:
        report = {"store": str(opened.root), "kinds": [asdict(usage) for usage in found]}
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(_table(found))
        click.echo(f"{opened.root}: {byte_count(sum(usage.bytes for usage in found))}")


def _open(given: Path | None) -> Store:
    folder = store_folder(given)
    if not folder.is_dir():
        raise StoreError(f"store {folder}: there is none; name its folder with --store")
    return Store(folder)


def _quarantine(store: Store, corruption: Corruption) -> str:
    """Quarantine a file if the store wrote it. Return its new path, or nothing."""
    return str(store.maintenance.quarantine(corruption)) if corruption.ours else ""


def _describe(corruption: Corruption, moved_to: str) -> str:
    line = f"{corruption.path}: {corruption.reason}"
    return f"{line}; set aside at {moved_to}" if moved_to else line


def _needed(files: Iterable[Path], data: Path) -> tuple[set[str], set[str]]:
    """Return the keys of all tasks and of all trajectories that some benchmark files need."""
    from harness.plan.planner import plan

    tasks: set[str] = set()
    trajectories: set[str] = set()
    precisions: tuple[Literal["fp32", "bf16"], ...] = (
        "fp32",
        "bf16",
    )  # a benchmark that leaves its precision open may have run in either
    for file, precision in itertools.product(files, precisions):
        benchmark, _ = open_benchmark(file, ())
        graph = plan(benchmark.located(data), precision)
        for cell in graph.cells:
            if cell.problem:
                raise UserError(f"{file}: what it needs cannot be told: {cell.problem}")
        tasks |= graph.tasks.keys()
        for task in graph.tasks.values():
            if isinstance(task.spec, TrainSpec):
                trajectories.add(task.spec.trajectory_key)
    return tasks, trajectories


def _remove(store: Store, found: Iterable[Unreferenced]) -> None:
    """Remove entries, unless another process uses the store."""
    store.prepare()
    with store.exclusive() as others:
        if others:
            raise StoreError(f"store {store.root}: in use by {others} other process(es); prune it when they have ended")
        for entry in found:
            store.maintenance.remove(entry)


def _entries(store: Store, found: Iterable[Unreferenced]) -> list[dict[str, Any]]:
    """Return entries as JSON, with paths relative to the store."""
    entries = []
    for entry in found:
        path = str(entry.path.relative_to(store.base))
        entries.append({"kind": entry.kind, "path": path, "bytes": entry.bytes})
    return entries


def _by_kind(found: Iterable[Unreferenced]) -> list[Usage]:
    sizes: dict[str, list[int]] = {}
    for entry in found:
        sizes.setdefault(entry.kind, []).append(entry.bytes)
    return [Usage(kind, len(of_kind), sum(of_kind)) for kind, of_kind in sizes.items()]


def _table(found: Iterable[Usage]) -> str:
    from tabulate import tabulate

    rows: list[list[Any]] = [[usage.kind, usage.count, byte_count(usage.bytes)] for usage in found]
    if not rows:
        return ""
    return tabulate(rows, headers=["kind", "count", "size"], colalign=("left", "right", "right"))
