"""Derivations that train: their images, their states in the store, their cost, and what is shown of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import Lab, stop_after
from descents import BENCHMARK, CATALOGUE, Descent, run_until_killed
from faults.rig import in_process, temporary_files
from harness import Recipe, Setting
from harness.api.specs import DeriveSpec
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.task_inputs import states_key
from harness.execution.tasks.derive import derive
from harness.execution.tasks.resources import TaskResources
from harness.plan.graph import Graph
from harness.store import Store
from harness.telemetry.events import DerivationEpochEnded, Event, ObjectQuarantined, RunPlanned

GraphOf = Callable[..., Graph]
BATCHES = 5  # 96 images in batches of at most 20


def derivation_of(graph: Graph) -> tuple[Task, DeriveSpec]:
    """Return the only derivation of a graph."""
    [task] = [task for task in graph.tasks.values() if task.kind == "derive"]
    assert isinstance(task.spec, DeriveSpec)
    return task, task.spec


def resources(lab: Lab, stopping: Callable[[], bool] = lambda: False, save_every: float = 60.0) -> TaskResources:
    """Return what tasks use, on the lab's store."""
    context = RunContext(CATALOGUE, lab.store.root, lab.folder, "cpu", lab.events.append, stopping, save_every=save_every)
    return TaskResources(context)


@pytest.fixture
def graph(graph_of: GraphOf, lab: Lab) -> Graph:
    """The graph of a deep ensemble and of the same with a descent, whose trainings are in the lab's store."""
    found = graph_of(CATALOGUE, **BENCHMARK)
    lab.run(found, CATALOGUE)
    lab.events.clear()
    return found


def epochs_told(events: Sequence[Event]) -> list[int]:
    """Return the epochs that derivations have reported."""
    return [event.epoch for event in events if isinstance(event, DerivationEpochEnded)]


def test_derivation_that_is_killed_between_epochs(graph: Graph, lab: Lab, tmp_path: Path) -> None:
    """The next run continues after the last saved epoch, ends with the same bits, and leaves no state."""
    task, _ = derivation_of(graph)
    folder = tmp_path / "killed"
    (folder / "out").mkdir(parents=True)
    codes = []
    for _ in range(2):
        process = in_process(run_until_killed, folder, str(tmp_path / "marker"))
        process.join(60)
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL, 0]
    store = Store(folder / "store")
    assert torch.equal(store.tensors(task.key, "weights-0")["1.weight"], lab.store.tensors(task.key, "weights-0")["1.weight"])
    assert store.meta(task.key)["files"] == lab.store.meta(task.key)["files"]
    assert store.meta(task.key)["facts"] == lab.store.meta(task.key)["facts"]
    lines = [json.loads(line) for line in (folder / "out" / "events.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "derivation_epoch"] == [1, 2, 3, 4]
    assert temporary_files(store) == []


@pytest.mark.parametrize("calls", [0, 2, BATCHES, BATCHES + 1, 2 * BATCHES + 4])
def test_run_that_must_stop_during_a_derivation(graph: Graph, lab: Lab, calls: int) -> None:
    """The derivation stops before the next batch; the last complete epoch is kept, and the result has the same bits."""
    task, spec = derivation_of(graph)
    expected = lab.store.tensors(task.key, "weights-0")
    facts = lab.store.meta(task.key)["facts"]
    lab.store.quarantine(task.key)
    with pytest.raises(Interrupted):
        derive(task, spec, resources(lab, stop_after(calls)))
    completed = (calls + 1) // (BATCHES + 1)
    assert lab.store.training_states.steps(task.key) == [completed][: bool(completed)]
    assert not lab.store.has(task.key)
    derive(task, spec, resources(lab))
    assert epochs_told(lab.events) == [1, 2, 3, 4]
    found = lab.store.tensors(task.key, "weights-0")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert lab.store.meta(task.key)["facts"] == facts
    assert lab.store.training_states.steps(task.key) == []


def test_damaged_state_of_a_derivation(graph: Graph, lab: Lab) -> None:
    """`verify` finds it; the derivation quarantines it, says so, and starts over with the same result."""
    task, spec = derivation_of(graph)
    expected = lab.store.tensors(task.key, "weights-0")
    lab.store.quarantine(task.key)
    with pytest.raises(Interrupted):
        derive(task, spec, resources(lab, stop_after(BATCHES)))
    [part] = (lab.store.base / "progress").rglob("*.safetensors")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    [corruption] = lab.store.maintenance.find_corruption()
    assert corruption.path == f"progress/{task.key[:2]}/{task.key}/1"
    derive(task, spec, resources(lab))
    [event] = [event for event in lab.events if isinstance(event, ObjectQuarantined)]
    assert event.key == task.key
    assert event.message == f"object {task.key[:12]} is damaged: step 1: state.safetensors does not match its digest"
    found = lab.store.tensors(task.key, "weights-0")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_states_that_prune_removes(graph: Graph, lab: Lab) -> None:
    """The state of a derivation belongs to its task: it goes if no benchmark file needs the task."""
    task, spec = derivation_of(graph)
    lab.store.quarantine(task.key)
    with pytest.raises(Interrupted):
        derive(task, spec, resources(lab, stop_after(BATCHES)))
    maintenance = lab.store.maintenance
    kept = {entry.path.name for entry in maintenance.find_unreferenced({task.key}, ()) if entry.kind == "progress"}
    gone = {entry.path.name for entry in maintenance.find_unreferenced((), ()) if entry.kind == "progress"}
    assert (kept, gone) == (set(), {task.key})
    usage = {usage.kind: usage.count for usage in maintenance.usage()}
    assert usage["progress"] == 1
    assert states_key(task) == task.key


def test_cost_of_a_derivation(graph_of: GraphOf, lab: Lab) -> None:
    """Budget columns, tasks and the run's plan count its epochs once; the trainings are the deep ensemble's."""
    graph = graph_of(
        CATALOGUE, **{**BENCHMARK, "methods": ["deep", "descended", {"descended": {"own_epochs": 1, "label": "short"}}]}
    )
    assert [cell.epochs_alone for cell in graph.cells] == [8.0, 10.0, 8.5]
    assert [cell.epochs_new for cell in graph.cells] == [8.0, 2.0, 0.5]
    assert sorted(task.cost for task in graph.tasks.values() if task.kind == "derive") == [0.5, 2.0]
    lab.run(graph, CATALOGUE)
    [planned] = [event for event in lab.events if isinstance(event, RunPlanned)]
    assert planned.epochs == planned.epochs_in_all == 10.5
    rows = (lab.out / "results.csv").read_text().splitlines()
    assert sum("training_epochs" in row for row in rows) == 3


def test_cost_of_outputs_of_one_derivation() -> None:
    """Several outputs of one derivation cost what the derivation costs."""
    from harness.plan.cost import epochs_alone

    cell = toy_cell()
    both = cell.derive(Doubled(), cell.build_deep())
    assert epochs_alone(both) == 2 * 4 + 3


class Doubled(Descent):
    """A descent with two outputs, of three epochs in all."""

    name, version = "doubled", 1
    outputs = 2
    epochs = 3.0  # type: ignore[assignment]


class ToyCell(harness.Cell):
    """A cell whose deep ensemble needs no catalogue."""

    def build_deep(self) -> list[harness.Weights]:
        """Return two trained members."""
        return [self.trajectory(member).at(4) for member in range(2)]


def toy_cell() -> ToyCell:
    """Return a cell of toys with trainings of four epochs."""
    from harness_basin.cross_entropy import CrossEntropy

    setting = Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=4, batch_size=16))
    return ToyCell(setting, CrossEntropy(), 0, 2)


@pytest.mark.parametrize("epochs", [float("nan"), float("inf"), -1, "3", True, None])
def test_derivation_with_an_impossible_cost(epochs: Any) -> None:
    """Its handle is refused, which names the derivation and the value; its contract is broken."""
    broken = type("Broken", (Descent,), {"epochs": epochs})()
    cell = toy_cell()
    expected = f"derivation 'descent': epochs must be a finite number of at least 0, not {epochs!r}"
    with pytest.raises(ValueError) as raised:
        cell.derive(broken, cell.build_deep()[:1])
    assert str(raised.value) == expected


def test_keys_of_derivations_do_not_depend_on_their_cost() -> None:
    """The cost is in no key, so that a better estimate of it keeps stored results."""
    cell = toy_cell()
    cheap = type("Cheap", (Descent,), {"epochs": 0.0})()
    [one], [other] = cell.derive(Descent(), cell.build_deep()), cell.derive(cheap, cell.build_deep())
    assert (one.task_key, one.key) == (other.task_key, other.key)
