"""`harness plan`: the graph and its cost. Trains nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import (
    data_folder,
    data_option,
    file_argument,
    json_option,
    open_benchmark,
    set_option,
    store_folder,
    store_option,
)


@click.command()
@file_argument
@set_option
@store_option
@data_option
@json_option
def plan(file: Path, overrides: tuple[str, ...], store: Path | None, data: Path | None, as_json: bool) -> None:
    """Print what a run would train, what is shared, what is in the store already, and what it all costs.

    Costs are in epochs of plain training; a distilled epoch counts 4/3, for the teacher's forward pass.
    """
    benchmark, _ = open_benchmark(file, overrides)
    benchmark = benchmark.located(data_folder(data))

    from harness.execution.device import precision_on, resolve_device
    from harness.plan.planner import plan as make_graph

    precision = precision_on(resolve_device("auto")) if benchmark.leaves_precision_open else "fp32"
    facts = _facts(make_graph(benchmark, precision), store_folder(store))
    click.echo(json.dumps(facts, indent=1) if as_json else _text(facts), nl=True)


class _Nothing:
    """The store of someone who has none yet."""

    def has(self, key: str) -> bool:
        return False

    def epochs(self, trajectory: str) -> dict[int, str]:
        return {}


def _facts(graph: Any, folder: Path) -> dict[str, Any]:
    """Return the plan as JSON; planning makes no folder."""
    from harness.execution.rows import place
    from harness.store import Store

    pending = graph.pending(Store(folder) if folder.is_dir() else _Nothing())
    new = graph.new_epochs(pending)
    cells = [
        {**place(cell), "members": len(cell.members), "key": cell.key, "epochs_alone": _round(cell.epochs_alone)}
        | {"epochs_new": _round(now), "epochs_new_from_empty_store": _round(cell.epochs_new), "problem": cell.problem}
        for cell, now in zip(graph.cells, new, strict=True)
    ]
    tasks = [
        {
            "key": task.key,
            "kind": task.kind,
            "cost": _round(task.cost),
            "stored": task.key not in pending,
            "parents": list(task.parents),
        }
        for task in graph.tasks.values()
    ]
    total = {
        name: _round(sum(exact))
        for name, exact in (
            ("epochs_alone", [cell.epochs_alone for cell in graph.cells]),
            ("epochs_new", new),
            ("epochs_new_from_empty_store", [cell.epochs_new for cell in graph.cells]),
        )
    }
    return {"benchmark": graph.benchmark.name, "cells": cells, "total": total, "shared": _shared(graph), "tasks": tasks}


def _round(epochs: float) -> float:
    return round(epochs, 6)


def _shared(graph: Any) -> list[dict[str, Any]]:
    """Return the trainings that more than one cell stands on, as counts by the methods that share them."""
    users: dict[str, set[int]] = defaultdict(set)
    for index, cell in enumerate(graph.cells):
        stack = [member.location.object for member in cell.members]
        while stack:
            key = stack.pop()
            if index not in users[key]:
                users[key].add(index)
                stack.extend(graph.tasks[key].parents)
    by_methods: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for key, cells in users.items():
        if len(cells) > 1 and graph.tasks[key].cost:
            by_methods[tuple(dict.fromkeys(graph.cells[i].spec.method.label for i in sorted(cells)))].append(
                graph.tasks[key].cost
            )
    return [{"methods": list(m), "trainings": len(costs), "epochs": _round(sum(costs))} for m, costs in by_methods.items()]


def _text(facts: dict[str, Any]) -> str:
    from tabulate import tabulate

    columns = ("dataset", "architecture", "method", "seed", "members", "epochs_alone", "epochs_new")
    table = tabulate(
        [[cell[c] for c in columns] for cell in facts["cells"]], headers=[c.replace("_", " ") for c in columns], floatfmt=".1f"
    )
    kinds: dict[str, list[int]] = {}
    for task in facts["tasks"]:
        count = kinds.setdefault(task["kind"], [0, 0])
        count[0] += 1
        count[1] += task["stored"]
    total = facts["total"]
    saved = total["epochs_alone"] - total["epochs_new_from_empty_store"]
    lines = [table, ""]
    lines += [
        f"shared by {', '.join(s['methods'])}: {s['trainings']} trainings, {s['epochs']:g} epochs" for s in facts["shared"]
    ]
    lines += [f"{kind}: {count} tasks, {stored} of them in the store" for kind, (count, stored) in kinds.items()]
    lines += [
        f"epochs if each ensemble were built alone: {total['epochs_alone']:g}",
        f"epochs with sharing, from an empty store:  {total['epochs_new_from_empty_store']:g} ({saved:g} saved)",
        f"epochs to train now:                       {total['epochs_new']:g}",
    ]
    lines += dict.fromkeys(f"cannot be planned: {cell['problem']}" for cell in facts["cells"] if cell["problem"])
    return "\n".join(lines)
