"""Tasks of a worker with a store of its own: what is copied, and what a transfer that fails means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Lab, stop_after
from descents import BENCHMARK, CATALOGUE
from faults.rig import contents
from harness.api.task import Outcome, Task
from harness.errors import Interrupted, StoreError
from harness.execution.context import RunContext
from harness.execution.node_store import NodeStore
from harness.execution.probes import stored_probe
from harness.execution.task_files import task_json
from harness.execution.task_inputs import lease_key, objects_of
from harness.execution.transfers import Transfers
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.store import Store
from harness.store.packing import EntryName, PackedEntry
from harness.telemetry.events import WorkerDescribed

GraphOf = Callable[..., Graph]
ALL_KINDS: dict[str, Any] = {
    "methods": ["deep", {"constrained": {"fork_epoch": 1}}, "permuted", {"distilled": {"fork_epoch": 1}}],
    "members": 2,
}


def flipped(entry: PackedEntry) -> PackedEntry:
    """Return an entry with one changed byte."""
    name = next(name for name in entry.files if name != "meta.json")
    data = entry.files[name]
    return replace(entry, files={**entry.files, name: data[:-1] + bytes([data[-1] ^ 1])})


class Node(NodeStore):
    """The store of a node, and a network that damages the first `damaged` entries in each direction."""

    def __init__(self, folder: Path, damaged: int = 0) -> None:
        super().__init__(folder)
        self.store = Store(folder)
        self.copied: list[EntryName] = []
        self._damaged = {"there": damaged, "back": damaged}

    def accept(self, entry: PackedEntry) -> str:
        self.copied.append(entry.name)
        return super().accept(self._sent("there", entry))

    def result(self, key: str) -> PackedEntry | None:
        entry = super().result(key)
        return None if entry is None else self._sent("back", entry)

    def _sent(self, direction: str, entry: PackedEntry) -> PackedEntry:
        has_tensors = len(entry.files) > 1
        if not has_tensors or not self._damaged[direction]:
            return entry
        self._damaged[direction] -= 1
        return flipped(entry)


class Scene:
    """The store of a run, a node, and a worker there."""

    def __init__(self, folder: Path, graph: Graph, damaged: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.graph = graph
        self.store = Store(folder / "store")
        self.node = Node(folder / "node" / "store", damaged)
        self.transfers = Transfers(self.store, self.node)
        self._folder = folder
        for task in graph.tasks.values():
            self.store.write_task(task.key, task_json(task))

    def worker(self, stopping: Callable[[], bool] = lambda: False) -> Worker:
        """Return a worker on the node, which saves after each epoch."""
        context = RunContext(CATALOGUE, self.node.store.root, self._folder, "cpu", lambda event: None, stopping, save_every=0.0)
        return Worker(context)

    def do(self, task: Task) -> Outcome:
        """Do a task on the node as an engine does."""
        beginning = self.transfers.begin([task.key])
        if beginning.ended:
            return beginning.ended[0]
        assert beginning.sent == [task.key]
        return self.transfers.receive(self.worker().attempt(task))

    def first(self, kind: str) -> Task:
        """Return the first task of a kind."""
        return next(task for task in self.graph.tasks.values() if task.kind == kind)

    def do_until(self, kind: str) -> Task:
        """Do all tasks before the first one of a kind; return that one."""
        for task in self.graph.tasks.values():
            if task.kind == kind:
                return task
            assert self.do(task).status == "done"
        raise AssertionError(kind)


@pytest.mark.parametrize("damaged", [0, 2])
def test_all_kinds_of_tasks(graph_of: GraphOf, lab: Lab, tmp_path: Path, damaged: int) -> None:
    """The store of the run ends as if nothing had been copied, with notes of epochs; damaged copies are sent again."""
    graph = graph_of(**ALL_KINDS)
    lab.run(graph)
    scene = Scene(tmp_path / "run", graph, damaged)
    for task in graph.tasks.values():
        outcome = scene.do(task)
        assert (outcome.key, outcome.status, outcome.message) == (task.key, "done", "")
    assert contents(scene.store) == contents(lab.store)
    assert list(scene.store.maintenance.find_corruption()) == []
    for task in graph.tasks.values():
        if task.kind == "train":
            trajectory = lease_key(task)
            assert scene.store.epochs(trajectory) == lab.store.epochs(trajectory)


def test_result_that_another_run_has_stored(graph_of: GraphOf, tmp_path: Path) -> None:
    """It is taken over, and nothing is copied."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.first("train")
    assert not scene.do(task).taken_over
    assert scene.do(task).taken_over


def test_parents_travel_once(graph_of: GraphOf, tmp_path: Path) -> None:
    """What a node has made or got is not sent there again; another node gets what the task reads, and no more."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("measure")
    assert scene.node.copied == []
    other = Node(tmp_path / "other" / "store")
    transfers = Transfers(scene.store, other)
    transfers.begin([task.key])
    assert other.copied == [EntryName(key) for key in objects_of(task.spec)]
    transfers.begin([task.key])
    assert len(other.copied) == len(objects_of(task.spec))


def test_transfer_that_is_damaged_each_time(graph_of: GraphOf, tmp_path: Path) -> None:
    """The task fails with the reason; its lease is free again."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]), damaged=100)
    training = scene.first("train")
    outcome = scene.do(training)
    assert outcome.status == "failed"
    assert outcome.message == "its result did not arrive whole, 3 times: weights.safetensors does not match its digest"
    assert not scene.store.present(training.key)
    with scene.store.lease(lease_key(training)) as acquired:
        assert acquired


def test_parent_that_does_not_arrive(graph_of: GraphOf, tmp_path: Path) -> None:
    """The task fails and is not sent."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("predict")
    transfers = Transfers(scene.store, Node(tmp_path / "other" / "store", damaged=100))
    (outcome,) = transfers.begin([task.key]).ended
    key = objects_of(task.spec)[0][:12]
    assert outcome.status == "failed"
    assert outcome.message == f"object {key} did not arrive whole, 3 times: weights.safetensors does not match its digest"


def test_parent_that_is_damaged_in_the_store_of_the_run(graph_of: GraphOf, tmp_path: Path) -> None:
    """The outcome names it, so that it is computed again."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("predict")
    (parent,) = objects_of(task.spec)
    scene.store.path(parent).write_bytes(b"")
    (outcome,) = Transfers(scene.store, Node(tmp_path / "other" / "store")).begin([task.key]).ended
    assert (outcome.status, outcome.damaged) == ("damaged", parent)


def test_copy_that_is_damaged_on_the_node(graph_of: GraphOf, tmp_path: Path) -> None:
    """It is discarded there, and copied again for the next try."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("predict")
    (parent,) = objects_of(task.spec)
    path = scene.node.store.path(parent)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    outcome = scene.do(task)
    if outcome.status == "damaged":
        assert outcome.damaged == parent
        assert scene.do(task).status == "done"
    assert scene.node.copied == [EntryName(parent)]


@pytest.mark.parametrize("kind", ["train", "derive"])
def test_training_or_derivation_that_is_stopped(graph_of: GraphOf, tmp_path: Path, kind: str) -> None:
    """Its state comes back, and another node continues from it; at the end no state is left."""
    scene = Scene(tmp_path, graph_of(CATALOGUE, **BENCHMARK))
    task = scene.do_until(kind)
    scene.transfers.begin([task.key])
    with pytest.raises(Interrupted):
        scene.worker(stop_after(9)).attempt(task)
    scene.transfers.save_states()
    scene.transfers.close()
    trajectory = lease_key(task)
    (step,) = scene.store.training_states.steps(trajectory)
    assert step > 0
    other = Scene(tmp_path / "second", scene.graph)
    other.store = scene.store
    other.transfers = Transfers(scene.store, other.node)
    assert other.do(task).status == "done"
    parents = [EntryName(key) for key in objects_of(task.spec)]
    assert other.node.copied == [*parents, EntryName(trajectory, step)]
    assert scene.store.training_states.steps(trajectory) == []
    assert list(scene.store.base.glob("leases/*")) == []


def test_task_of_another_run(graph_of: GraphOf, tmp_path: Path) -> None:
    """It waits while that run has the lease; when the result is there, it is done without being sent."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("train")
    other = Scene(tmp_path / "second", scene.graph)
    transfers = Transfers(Store(scene.store.root), other.node)
    assert scene.transfers.begin([task.key]).sent == [task.key]
    assert transfers.begin([task.key]).waiting[0].key == task.key
    scene.transfers.receive(scene.worker().attempt(task))
    assert [outcome.status for outcome in transfers.begin([task.key]).ended] == ["done"]
    assert other.node.copied == []


def test_failed_task(graph_of: GraphOf, tmp_path: Path) -> None:
    """What the worker recorded about the failure is in the store of the run."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = scene.do_until("train")
    scene.transfers.begin([task.key])
    scene.node.store.record_failure(task.key, {"message": "diverged"})
    scene.transfers.receive(Outcome(task.key, "failed", "diverged"))
    path = scene.store.failure(task.key)
    assert path is not None
    assert "diverged" in path.read_text()


def test_probe(tmp_path: Path, graph_of: GraphOf) -> None:
    """It tells about leases in the store of the run, where this process takes them."""
    scene = Scene(tmp_path, graph_of(members=2, methods=["deep"]))
    task = stored_probe(scene.store)
    scene.transfers.begin([task.key])
    seen = WorkerDescribed(task=task.key, host="node", device="cpu", cpus="1", data_root="/data", data=(), lease_acquired=True)
    assert scene.transfers.corrected(seen).lease_acquired
    with Store(scene.store.root).lease(task.spec.lease):  # type: ignore[union-attr]
        assert not scene.transfers.corrected(seen).lease_acquired


def test_node_without_space(tmp_path: Path) -> None:
    """A store that cannot be created is one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store: cannot be created: "):
        NodeStore(tmp_path / "file" / "store")


def test_store_that_another_worker_uses(tmp_path: Path) -> None:
    """It stays until the last worker of the node closes it."""
    first, second = (NodeStore(tmp_path / "node" / "store") for _ in range(2))
    first.close(remove=True)
    assert (tmp_path / "node" / "store").exists()
    second.close(remove=True)
    assert not (tmp_path / "node" / "store").exists()
