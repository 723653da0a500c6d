"""`harness store`: is everything in it as it was written, what is needed, how much is it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from harness.blame import printable
from harness.cli.arguments import data_folder, data_option, json_option, open_benchmark, store_folder, store_option
from harness.cli.paths import UserPath
from harness.errors import StoreError, UserError
from harness.store import Damage, Holding, Needless, Store, damages, holdings, needless


@click.group()
def store() -> None:
    """Verify a store, prune it, or say how large it is."""


@store.command()
@store_option
@click.option("--set-aside", "move", is_flag=True, help="Move what is damaged out of the way; the next run computes it again.")
@json_option
def verify(store: Path | None, move: bool, as_json: bool) -> None:
    """Read every file of the store against its digest, and name what does not match; exit code 1 if anything does not.

    A run that meets a damaged object sets it aside and computes it again by itself; nothing is ever deleted for being damaged.
    """
    shelf = _open(store)
    found = []
    for damage in damages(shelf):
        where = _set_aside(shelf, damage) if move else ""
        found.append({**asdict(damage), "set_aside": where})
        if not as_json:
            click.echo(printable(f"{damage.path}: {damage.reason}" + (f"; set aside at {where}" if where else "")))
    objects = len(list(shelf.keys()))
    if as_json:
        click.echo(json.dumps({"store": str(shelf.root), "objects": objects, "damaged": found}, indent=1))
    else:
        click.echo(f"{shelf.root}: {objects} objects, {len(found) or 'nothing'} damaged")
    sys.exit(1 if found else 0)


@store.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=UserPath())
@store_option
@data_option
@click.option("--yes", is_flag=True, help="Really remove it; without this, only say what would go.")
@json_option
def prune(files: tuple[Path, ...], store: Path | None, data: Path | None, yes: bool, as_json: bool) -> None:
    """Remove what none of the benchmark files FILE... needs, what was set aside, and the states of other trainings.

    Without --yes nothing is removed. A store that a run is working on is not pruned.
    """
    shelf = _open(store)
    tasks, trajectories = _needed(files, data_folder(data))
    found = list(needless(shelf, tasks, trajectories))
    if yes:
        _remove(shelf, found)
    if as_json:
        entries = [{"kind": n.kind, "path": str(n.path.relative_to(shelf.base)), "bytes": n.bytes} for n in found]
        click.echo(json.dumps({"store": str(shelf.root), "removed": yes, "needless": entries}, indent=1))
        return
    click.echo(_table(_by_kind(found)))
    size = _size(sum(n.bytes for n in found))
    if not found:
        click.echo(f"{shelf.root}: nothing to remove")
    elif yes:
        click.echo(f"{shelf.root}: removed {size}")
    else:
        click.echo(f"{shelf.root}: {size} would be removed; nothing was, --yes removes it")


@store.command()
@store_option
@json_option
def du(store: Path | None, as_json: bool) -> None:
    """Say how much lies in the store, by kind."""
    shelf = _open(store)
    found = holdings(shelf)
    if as_json:
        click.echo(json.dumps({"store": str(shelf.root), "kinds": [asdict(holding) for holding in found]}, indent=1))
    else:
        click.echo(_table(found))
        click.echo(f"{shelf.root}: {_size(sum(holding.bytes for holding in found))}")


def _open(given: Path | None) -> Store:
    folder = store_folder(given)
    if not folder.is_dir():
        raise StoreError(f"store {folder}: there is none; name its folder with --store")
    return Store(folder)


def _set_aside(shelf: Store, damage: Damage) -> str:
    return str(shelf.move_aside(damage.path)) if damage.ours else ""


def _needed(files: Iterable[Path], data: Path) -> tuple[set[str], set[str]]:
    """Return the keys of all tasks and of all trajectories of some benchmarks."""
    from harness.graph import plan

    tasks: set[str] = set()
    trajectories: set[str] = set()
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")  # what is left open was trained in either
    for file, precision in itertools.product(files, precisions):
        graph = plan(open_benchmark(file, ())[0].located(data), precision)
        for cell in graph.cells:
            if cell.problem:
                raise UserError(f"{file}: what it needs cannot be told: {cell.problem}")
        tasks |= graph.tasks.keys()
        trajectories |= {task.spec["trajectory_key"] for task in graph.tasks.values() if task.kind == "train"}
    return tasks, trajectories


def _remove(shelf: Store, found: Iterable[Needless]) -> None:
    shelf.prepare()
    with shelf.shut() as others:
        if others:
            raise StoreError(f"store {shelf.root}: in use by {others} other process(es); prune it when they have ended")
        for entry in found:
            shelf.discard(entry.path)


def _by_kind(found: Iterable[Needless]) -> list[Holding]:
    kinds: dict[str, list[int]] = {}
    for entry in found:
        kinds.setdefault(entry.kind, []).append(entry.bytes)
    return [Holding(kind, len(sizes), sum(sizes)) for kind, sizes in kinds.items()]


def _table(found: Iterable[Holding]) -> str:
    from tabulate import tabulate

    rows: list[list[Any]] = [[holding.kind, holding.count, _size(holding.bytes)] for holding in found]
    return tabulate(rows, headers=["kind", "count", "size"], colalign=("left", "right", "right")) if rows else ""


def _size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
