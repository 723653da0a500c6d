"""States that derivations save: their contract, those that cannot be stored, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import Lab
from descents import BENCHMARK, CATALOGUE, Descent
from harness import Derivation, DerivationContext, DerivationState, StateDict
from harness.api.specs import DeriveSpec
from harness.api.task import Task
from harness.errors import PluginFailed, TaskFailed
from harness.execution.context import RunContext
from harness.execution.tasks.derive import derive
from harness.execution.tasks.resources import TaskResources
from harness.plan.graph import Graph
from harness.testing import check_derivation, derivation_context


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """A context of toys."""
    return derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)


@pytest.fixture
def graph(graph_of: Callable[..., Graph], lab: Lab) -> Graph:
    """The graph of a deep ensemble and of the same with a descent, whose trainings are in the lab's store."""
    found = graph_of(CATALOGUE, **BENCHMARK)
    lab.run(found, CATALOGUE)
    lab.events.clear()
    return found


def derivation_of(graph: Graph) -> tuple[Task, DeriveSpec]:
    """Return the only derivation of a graph."""
    [task] = [task for task in graph.tasks.values() if task.kind == "derive"]
    assert isinstance(task.spec, DeriveSpec)
    return task, task.spec


def test_contract_of_a_derivation_that_trains(context: DerivationContext) -> None:
    """It holds: continued from a state that was saved, it gives the same weights."""
    check_derivation(Descent(), [context.network().state_dict()], context)


class Forgetful(Descent):
    """A descent that forgets its momentum."""

    name, version = "forgetful", 1

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        state = context.resume()
        if state is not None:
            tensors = {k: torch.zeros_like(v) if k.startswith("memory") else v for k, v in state.tensors.items()}
            forgotten = replace(state, tensors=tensors)
            context = replace(context, resume=lambda: forgotten)
        return super().derive(parents, context)


def test_contract_of_a_derivation_that_forgets(context: DerivationContext) -> None:
    """The message names the epoch and a tensor."""
    expected = "^forgetful: continued from its state of epoch 1 it gives other weights: '1.weight'"
    with pytest.raises(AssertionError, match=expected):
        check_derivation(Forgetful(), [context.network().state_dict()], context)


class Saving(Derivation):
    """Saves what the test wants."""

    name, version = "descent", 1
    state: Any = None

    class Options(harness.Options):
        """As those of the descent, in whose place it is registered."""

        own_epochs: int = 4

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        context.save(type(self).state)
        return [{name: tensor.clone() for name, tensor in parents[0].items()}], {}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epoch": 1}, "save got a dict; a DerivationState is expected"),
        (DerivationState(-1), "save got epoch -1; it counts completed epochs"),
        (DerivationState(1.5), "save got a state that cannot be stored: its epoch must be an integer, not 1.5"),  # type: ignore
        (
            DerivationState(1, {}, {"loss": float("nan")}),
            "save got a state that cannot be stored: Out of range float values are not JSON compliant",
        ),
        (
            DerivationState(1, {}, {"loss": torch.ones(1)}),
            "save got a state that cannot be stored: Object of type Tensor is not JSON serializable",
        ),
        (DerivationState(1, {"w": [1.0]}), "save got a list as 'w'; a tensor is expected"),  # type: ignore[dict-item]
    ],
)
def test_states_that_cannot_be_stored(graph: Graph, lab: Lab, state: Any, message: str) -> None:
    """The derivation fails, with its name and what is wrong."""
    task, spec = derivation_of(graph)
    lab.store.quarantine(task.key)
    saving = type("SavingThis", (Saving,), {"state": state})
    catalogue = toys.catalogue(("derivation", saving))
    context = RunContext(catalogue, lab.store.root, lab.folder, "cpu", lab.events.append, lambda: False, save_every=0.0)
    with pytest.raises(PluginFailed) as raised:
        derive(task, spec, TaskResources(context))
    found = str(raised.value).removesuffix(": nan")  # from Python 3.13 on
    assert found == f"derivation 'descent' of {toys.PLUGIN}: {message}"


@pytest.mark.parametrize(
    "state",
    [
        DerivationState(3),
        DerivationState(0, {"scalar": torch.tensor(1.5, dtype=torch.float64), "none": torch.zeros(0)}, {"a": [1, None, "b"]}),
        DerivationState(1, {"view": torch.arange(6).view(2, 3).T, "bools": torch.tensor([True])}, {"x": 0.1 + 0.2}),
    ],
)
def test_states_that_come_back(graph: Graph, lab: Lab, state: DerivationState) -> None:
    """Tensors of any type and values come back as they were saved."""
    task, spec = derivation_of(graph)
    lab.store.quarantine(task.key)
    found = []

    class Reading(Saving):
        def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> Any:
            found.append(context.resume())
            context.save(state)
            raise TaskFailed("ended after its state was saved")

    catalogue = toys.catalogue(("derivation", Reading))
    context = RunContext(catalogue, lab.store.root, lab.folder, "cpu", lab.events.append, lambda: False, save_every=0.0)
    for _ in range(2):
        with pytest.raises(TaskFailed, match="ended after its state was saved"):
            derive(task, spec, TaskResources(context))
    first, second = found
    assert first is None
    assert second is not None
    assert (second.epoch, dict(second.values)) == (state.epoch, dict(state.values))
    assert second.tensors.keys() == state.tensors.keys()
    for name, tensor in state.tensors.items():
        assert second.tensors[name].dtype == tensor.dtype
        assert torch.equal(second.tensors[name], tensor)
