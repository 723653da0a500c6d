"""`harness plan`: the cells and tasks of a benchmark and their cost. Trains nothing."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.arguments import (
    data_option,
    file_argument,
    json_option,
    open_benchmark,
    set_option,
    store_option,
)
from harness.cli.plan_estimate import Calibration, estimate_json, estimate_text, estimate_wall_time
from harness.errors import UserError
from harness.execution.device import parse_device
from harness.runs.places import data_folder, store_folder

if TYPE_CHECKING:
    from harness.api.task import Task
    from harness.plan.graph import Graph
    from harness.plan.store_view import StoreView
    from harness.runs.wall_time_estimate import WallTimeEstimate


@click.command()
@file_argument
@set_option
@store_option
@data_option
@json_option
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Also estimate the wall time on N workers, from the store.",
)
@click.option("--calibrate", is_flag=True, help="With --workers: measure an epoch of each kind here, for the estimate.")
@click.option("--device", metavar="auto|cpu|cuda|cuda:INDEX", help="With --calibrate: where to measure; default: auto.")
def plan(
    file: Path,
    overrides: tuple[str, ...],
    store: Path | None,
    data: Path | None,
    as_json: bool,
    workers: int | None,
    calibrate: bool,
    device: str | None,
) -> None:
    """Print what a run would train, what its cells share, what the store already holds, and the cost.

    Costs are in epochs of plain training; a distilled epoch counts 4/3, for the teacher's forward pass. With --workers, the
    expected wall time and the critical path are printed, too.
    """
    _check_options(workers, calibrate, device)
    benchmark, catalogue = open_benchmark(file, overrides)
    benchmark = benchmark.located(data_folder(data))

    from harness.execution.cuda_driver import automatic_precision
    from harness.plan.planner import plan as make_graph
    from harness.startup.garbage import garbage_collection_paused

    precision: Literal["fp32", "bf16"] = "fp32"
    on_cpu = device is not None and parse_device(device).kind == "cpu"
    if benchmark.leaves_precision_open and not on_cpu:
        precision = automatic_precision()
    with garbage_collection_paused():
        graph = make_graph(benchmark, precision)
        pending = graph.pending(_store_view(store_folder(store)))
    estimate: WallTimeEstimate | None = None
    if workers is not None:
        place = Calibration(catalogue, data_folder(data), device or "auto") if calibrate else None
        estimate = estimate_wall_time(graph, pending, workers, store_folder(store), place)
    with garbage_collection_paused():
        facts = _facts(graph, pending)
        if as_json:
            if estimate is not None:
                facts["estimate"] = estimate_json(estimate)
            _print_json({**facts, "tasks": _tasks(graph, pending)})
            return
        click.echo(_text(facts, _stored_by_kind(graph, pending)))
    if estimate is not None:
        click.echo(estimate_text(estimate))


def _check_options(workers: int | None, calibrate: bool, device: str | None) -> None:
    if calibrate and workers is None:
        raise UserError("--calibrate: measures for the estimate of --workers; add --workers N")
    if device is None:
        return
    if not calibrate:
        raise UserError(f"--device {device}: says where --calibrate measures; add --calibrate")
    parse_device(device)


class _EmptyStore:
    """What planning asks of a store, for a store that does not exist. Planning creates no folder."""

    def has(self, key: str) -> bool:
        return False

    def epochs(self, trajectory: str) -> dict[int, str]:
        return {}


def _store_view(folder: Path) -> StoreView:
    from harness.store import Store

    return Store(folder) if folder.is_dir() else _EmptyStore()


def _facts(graph: Graph, pending: dict[str, Task]) -> dict[str, Any]:
    """Return the plan as JSON, without its tasks."""
    new_epochs = graph.new_epochs(pending)
    return {
        "benchmark": graph.benchmark.name,
        "cells": _cells(graph, new_epochs),
        "total": {
            "epochs_alone": _sum(cell.epochs_alone for cell in graph.cells),
            "epochs_new": _sum(new_epochs),
            "epochs_new_from_empty_store": _sum(cell.epochs_new for cell in graph.cells),
        },
        "shared": _shared(graph),
    }


def _print_json(facts: dict[str, Any]) -> None:
    """Print JSON piece by piece: the tasks of a large plan are a hundred megabytes of text."""
    pieces = json.JSONEncoder(indent=1).iterencode(facts)
    while text := "".join(itertools.islice(pieces, 100_000)):
        click.echo(text, nl=False)
    click.echo()


def _cells(graph: Graph, new_epochs: Iterable[float]) -> list[dict[str, Any]]:
    from harness.execution.rows import place

    cells = []
    for cell, new in zip(graph.cells, new_epochs, strict=True):
        facts = {
            **place(cell),
            "members": len(cell.members),
            "key": cell.key,
            "epochs_alone": _round(cell.epochs_alone),
            "epochs_new": _round(new),
            "epochs_new_from_empty_store": _round(cell.epochs_new),
            "problem": cell.problem,
        }
        cells.append(facts)
    return cells


def _tasks(graph: Graph, pending: Collection[str]) -> list[dict[str, Any]]:
    tasks = []
    for task in graph.tasks.values():
        facts = {
            "key": task.key,
            "kind": task.kind,
            "cost": _round(task.cost),
            "stored": task.key not in pending,
            "parents": list(task.parents),
        }
        tasks.append(facts)
    return tasks


def _stored_by_kind(graph: Graph, pending: Collection[str]) -> dict[str, list[bool]]:
    """Return, for each task by kind, whether the store has its result."""
    stored: dict[str, list[bool]] = {}
    for task in graph.tasks.values():
        stored.setdefault(task.kind, []).append(task.key not in pending)
    return stored


def _round(epochs: float) -> float:
    return round(epochs, 6)


def _sum(epochs: Iterable[float]) -> float:
    return _round(sum(epochs))


def _shared(graph: Graph) -> list[dict[str, Any]]:
    """Return the trainings that several cells need, counted by the methods that share them."""
    costs_by_methods: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for key, cells in _cells_by_task(graph).items():
        cost = graph.tasks[key].cost
        if len(cells) > 1 and cost:
            labels = dict.fromkeys(graph.cells[index].spec.method.label for index in sorted(cells))
            costs_by_methods[tuple(labels)].append(cost)
    shared = []
    for methods, costs in costs_by_methods.items():
        shared.append({"methods": list(methods), "trainings": len(costs), "epochs": _sum(costs)})
    return shared


def _cells_by_task(graph: Graph) -> dict[str, set[int]]:
    """Return, for each task that members need, the indices of the cells that need it."""
    cells: dict[str, set[int]] = defaultdict(set)
    for index, cell in enumerate(graph.cells):
        stack = [member.location.object for member in cell.members]
        while stack:
            key = stack.pop()
            if index not in cells[key]:
                cells[key].add(index)
                stack.extend(graph.tasks[key].parents)
    return cells


def _text(facts: dict[str, Any], stored_by_kind: Mapping[str, Sequence[bool]]) -> str:
    """Return the plan as a table of cells and lines about sharing, tasks and cost."""
    lines = [_table(facts["cells"]), ""]
    for shared in facts["shared"]:
        methods = ", ".join(shared["methods"])
        trainings = "1 training" if shared["trainings"] == 1 else f"{shared['trainings']} trainings"
        lines.append(f"shared by {methods}: {trainings}, {shared['epochs']:g} epochs")
    for kind, stored in stored_by_kind.items():
        lines.append(f"{kind}: {len(stored)} tasks, {sum(stored)} of them in the store")
    total = facts["total"]
    saved = total["epochs_alone"] - total["epochs_new_from_empty_store"]
    lines += [
        f"epochs if each ensemble were built alone: {total['epochs_alone']:g}",
        f"epochs with sharing, from an empty store:  {total['epochs_new_from_empty_store']:g} ({saved:g} saved)",
        f"epochs to train now:                       {total['epochs_new']:g}",
    ]
    problems = dict.fromkeys(cell["problem"] for cell in facts["cells"] if cell["problem"])
    lines += [f"cannot be planned: {problem}" for problem in problems]
    return "\n".join(lines)


def _table(cells: Iterable[dict[str, Any]]) -> str:
    from tabulate import tabulate

    names = ("dataset", "architecture", "method")
    counts = ("seed", "members")
    costs = ("epochs_alone", "epochs_new")
    rows = []
    for cell in cells:
        row = [cell[name] for name in names] + [str(cell[name]) for name in counts] + [f"{cell[name]:.1f}" for name in costs]
        rows.append(row)
    headers = [column.replace("_", " ") for column in (*names, *counts, *costs)]
    align = ["left"] * len(names) + ["right"] * (len(counts) + len(costs))
    return tabulate(rows, headers, colalign=align, disable_numparse=True)  # texts: guessing their types takes longest
