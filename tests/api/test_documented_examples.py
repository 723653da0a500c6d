"""The examples in the docstrings of the plugin interfaces."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import harness
import toys
from conftest import Lab
from harness.api.plugin import Plugin
from harness.execution.context import RunContext
from harness.execution.run_plan import RunPlan
from harness.execution.runner import Runner
from harness.plan.graph import Graph
from harness.testing import (
    check_architecture,
    check_derivation,
    check_ensemble_builder,
    check_metric,
    check_objective,
    derivation_context,
)


def documented(base: type[Plugin]) -> Any:
    """Return an instance of the class that a docstring defines."""
    lines = (inspect.getdoc(base) or "").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("class "))
    code = [lines[first]]
    for line in lines[first + 1 :]:
        if line and not line.startswith(" "):
            break
        code.append(line)
    names: dict[str, Any] = {"math": math, "torch": torch, "nn": nn, "F": F}
    for name in (base.__name__, "MetricValue"):
        names[name] = getattr(harness, name)
    exec("\n".join(code), names)
    class_name = lines[first].removeprefix("class ").partition("(")[0]
    return names[class_name]()


def test_documented_architecture() -> None:
    """It keeps the contract."""
    check_architecture(documented(harness.Architecture), shape=(3, 4, 4), classes=5)


def test_documented_objective_and_builder() -> None:
    """Both keep their contracts."""
    objective = documented(harness.Objective)
    check_objective(objective)
    setting = harness.Setting(toys.Blobs(), toys.Perceptron(), harness.Recipe(epochs=4))
    check_ensemble_builder(documented(harness.EnsembleBuilder), setting, objective)


def test_documented_derivation(tmp_path: Path) -> None:
    """It keeps the contract."""
    context = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    parents = []
    for _ in range(3):
        parents.append({name: torch.rand_like(tensor) for name, tensor in context.network().state_dict().items()})
    check_derivation(documented(harness.Derivation), parents, context)


def test_documented_metric() -> None:
    """It keeps the contract, and its value is a percentage."""
    metric = documented(harness.Metric)
    (value,) = check_metric(metric)
    assert 0 <= value.value <= 100


def test_documented_engine(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """It runs a benchmark to its end."""
    graph = graph_of(methods=["deep"])
    context = RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", lab.events.append, lambda: False)
    state = Runner(RunPlan(graph), lab.store, documented(harness.Engine), context, lab.out).run()
    assert not state.failures
    assert set(state.measured) == {measure.key for cell in graph.cells for measure in cell.measures.values()}
