"""Whole runs of toys: shared trainings, resumed runs, failures, damaged objects, concurrent runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import RECIPE, Lab, stop_after
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.run_plan import RunPlan
from harness.execution.runner import Runner
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.event_log import EventLog
from harness.telemetry.events import Event, TaskEnded, TaskStarted

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "swe", {"distilled": {"fork_epoch": 1}}, "distilled_deep"]


def weights(store: Store, graph: Graph) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of every member, by the member's key."""
    found = {}
    for cell in graph.cells:
        for member in cell.members:
            found[member.key] = store.tensors(member.location.object, member.location.part)
    return found


def equal(left: dict[str, dict[str, torch.Tensor]], right: dict[str, dict[str, torch.Tensor]]) -> bool:
    """Return whether the weights of two stores are equal to the bit."""
    if left.keys() != right.keys():
        return False
    for key, state in left.items():
        if state.keys() != right[key].keys():
            return False
        if not all(torch.equal(tensor, right[key][name]) for name, tensor in state.items()):
            return False
    return True


def test_run_of_five_methods(graph_of: GraphOf, lab: Lab) -> None:
    """Every cell has rows of both metrics and of the epochs, and the planned number of epochs is trained."""
    graph = graph_of(methods=METHODS)
    state = lab.run(graph)
    rows = read_rows(lab.out)
    main = rows[rows["main"]]
    methods = ["deep", "constrained", "swe", "distilled", "distilled_deep"]
    assert set(main["status"]) == {"done"}
    assert main.groupby("method").size().to_dict() == dict.fromkeys(methods, 3)
    assert state.trained == pytest.approx(sum(cell.epochs_new for cell in graph.cells))
    assert main[main["metric"] == "ensemble_accuracy"]["value"].between(25, 100).all()


def test_repeated_run(graph_of: GraphOf, lab: Lab) -> None:
    """It does no task and writes the same rows to the bit."""
    graph = graph_of()
    lab.run(graph)
    before = (lab.out / "results.csv").read_bytes()
    assert lab.run(graph).done == 0
    assert (lab.out / "results.csv").read_bytes() == before


def test_run_with_a_new_metric_method_or_seed(graph_of: GraphOf, lab: Lab) -> None:
    """A new metric trains nothing, a new method what it does not share, and a new seed its own cells."""
    lab.run(graph_of())
    assert lab.run(graph_of(metrics=["ensemble_accuracy", "joint_connectivity", "brier_score"])).trained == 0
    graph = graph_of(methods=["deep", {"constrained": {"fork_epoch": 1}}, "swe"])
    assert lab.run(graph).trained == graph.cells[2].epochs_new
    both = graph_of(seeds=[0, 1])
    assert lab.run(both).trained == sum(cell.epochs_new for cell in both.cells if cell.spec.seed == 1)


@pytest.mark.parametrize("steps", [1, 7, 23, 40])
def test_run_that_is_stopped_several_times(graph_of: GraphOf, lab: Lab, tmp_path: Path, steps: int) -> None:
    """The resumed run has the weights and rows of an uninterrupted one to the bit, and leaves no training state."""
    graph = graph_of(methods=METHODS)
    uninterrupted = Store(tmp_path / "uninterrupted")
    lab.run(graph, store=uninterrupted)
    rows = (lab.out / "results.csv").read_bytes()
    stops = 0
    while True:
        try:
            lab.run(graph, stopping=stop_after(steps + 31 * stops))
            break
        except Interrupted:
            stops += 1
            assert (lab.out / "results.csv").exists()
    assert stops > 0
    assert equal(weights(lab.store, graph), weights(uninterrupted, graph))
    assert (lab.out / "results.csv").read_bytes() == rows
    assert list((lab.store.root / "progress").rglob("*.safetensors")) == []


def test_rows_of_a_stopped_run(graph_of: GraphOf, lab: Lab) -> None:
    """They have every cell; cells that are not measured have the status `missing`."""
    with pytest.raises(Interrupted):
        lab.run(graph_of(), stopping=lambda: True)
    rows = read_rows(lab.out)
    assert list(rows[rows["metric"] == "ensemble_accuracy"]["status"]) == ["missing", "missing"]


def test_members_that_diverge(graph_of: GraphOf, lab: Lab) -> None:
    """Their cells fail with the epoch in the message; the other cells are measured."""
    graph = graph_of(
        architectures=["perceptron", {"perceptron": {"width": 8, "label": "hot"}}],
        settings=[{"architecture": "hot", "recipe": {"learning_rate": 1e12, "warmup": 0.0}}],
    )
    state = lab.run(graph)
    rows = read_rows(lab.out)
    main = rows[rows["metric"] == "ensemble_accuracy"]
    assert set(main[main["architecture"] == "perceptron"]["status"]) == {"done"}
    failed = main[main["architecture"] == "hot"]
    assert set(failed["status"]) == {"failed"}
    assert failed["message"].str.match(r"diverged in epoch 1: the training loss is").all()
    assert sorted(path.stem for path in (lab.store.root / "failures").rglob("*.json")) == sorted(state.failures)
    assert state.failures != {}


def test_metric_that_fails_in_the_first_run_only(graph_of: GraphOf, lab: Lab) -> None:
    """The second run tries the failed cell again and measures it."""
    broken = {"now": True}

    class Moody(harness.Metric):
        name = "moody"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            if broken["now"]:
                raise RuntimeError("not today")
            return [harness.MetricValue("moody", float("nan"))]

    catalogue = toys.catalogue(("metric", Moody))
    graph = graph_of(catalogue, metrics=["ensemble_accuracy", "moody"], methods=["deep"])
    state = lab.run(graph, catalogue)
    rows = read_rows(lab.out).set_index("metric")
    assert rows.loc["ensemble_accuracy", "status"] == "done"
    assert "RuntimeError: not today (test_runner.py:" in rows.loc["moody", "message"]
    assert len(state.failures) == 1
    broken["now"] = False
    assert lab.run(graph, catalogue).failures == {}
    rows = read_rows(lab.out).set_index("metric")
    assert rows.loc["moody", "status"] == "done"
    assert rows.loc["moody", "value"] != rows.loc["moody", "value"]


@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
def test_checkpoint_with_a_flipped_bit(graph_of: GraphOf, lab: Lab, file: str) -> None:
    """It is quarantined and trained again, with the same weights."""
    graph = graph_of(methods=["deep"])
    lab.run(graph)
    before = weights(lab.store, graph)
    member = graph.cells[0].members[1]
    path = lab.store.path(member.key).parent / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    wider = graph_of(methods=["deep"], metrics=["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}])
    lab.events.clear()
    assert lab.run(wider).failures == {}
    assert lab.trained() == [member.key]
    assert [path.name.partition("-")[0] for path in (lab.store.root / "set_aside").iterdir()] == [member.key]
    assert equal(weights(lab.store, graph), before)


def test_truncated_checkpoint(graph_of: GraphOf, lab: Lab) -> None:
    """It is trained again, since its size is checked also where nothing reads it."""
    graph = graph_of(methods=["deep"])
    lab.run(graph)
    member = graph.cells[0].members[0]
    os.truncate(lab.store.path(member.key), 100)
    lab.events.clear()
    lab.run(graph)
    assert lab.trained() == [member.key]


def test_object_that_is_damaged_after_every_write(graph_of: GraphOf, lab: Lab) -> None:
    """Its cells fail with the damage, and the run ends."""
    graph = graph_of(methods=["deep"], metrics=["ensemble_accuracy"])
    victim = graph.cells[0].members[0].key

    def damage(event: Event) -> None:
        if isinstance(event, TaskEnded) and event.task == victim and event.status == "done":
            path = lab.store.path(victim)
            path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    state = lab.run(graph, observe=damage)
    for message in state.failures.values():
        assert "does not match its digest" in message
    assert state.failures != {}


def test_two_concurrent_runs_on_one_store(graph_of: GraphOf, lab: Lab) -> None:
    """No training starts twice, and both runs have all rows."""
    graph = graph_of(methods=METHODS)
    other = lab.run_with_another(graph)
    started = [*lab.trainings_started(), *other.trainings_started()]
    assert sorted(started) == sorted(key for key, task in graph.tasks.items() if task.kind == "train")
    assert (lab.out / "results.csv").read_bytes() == (other.out / "results.csv").read_bytes()


def test_results_that_another_run_stores_after_this_one_began(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> None:
    """Nothing is left to do, and the rows have all values."""
    graph = graph_of()
    out = tmp_path / "late"
    out.mkdir()
    log = EventLog(out / "events.jsonl", {})
    context = RunContext(toys.catalogue(), lab.store.root, tmp_path, "cpu", log, lambda: False)
    runner = Runner(RunPlan(graph), lab.store, LocalEngine(LocalEngine.Options(workers=1)), context, out)
    runner.begin()
    lab.run(graph)
    assert runner.run().done == 0
    log.close()
    assert (out / "results.csv").read_bytes() == (lab.out / "results.csv").read_bytes()


def test_seconds_of_siblings(graph_of: GraphOf, lab: Lab) -> None:
    """A training ends when it is stored, not when the last of its siblings is: their times do not overlap."""
    lab.run(graph_of(members=3, methods=["deep"]))
    ended = [event for event in lab.events if isinstance(event, TaskEnded) and event.kind == "train"]
    began = {event.task: event.time for event in lab.events if isinstance(event, TaskStarted)}
    assert len(ended) == 3
    ends_by_begin = [event.time for event in sorted(ended, key=lambda event: began[event.task])]
    begins = sorted(began[event.task] for event in ended)
    for end, next_begin in zip(ends_by_begin, begins[1:], strict=False):
        assert end <= next_begin
    for event in ended:
        assert event.seconds == pytest.approx(event.time - began[event.task], abs=1e-3)


def test_observer_that_raises(graph_of: GraphOf, lab: Lab) -> None:
    """The log names it once, it gets no more events, and all tasks are done."""

    def raising(event: Event) -> None:
        raise KeyError("no")

    lab.run(graph_of(methods=["deep"]), observe=raising)
    log = [json.loads(line) for line in (lab.out / "events.jsonl").read_text().splitlines()]
    [failure] = [event["message"] for event in log if event["event"] == "observer_failed"]
    assert failure.startswith("KeyError: 'no' (test_runner.py:")
    assert {event["status"] for event in log if event["event"] == "task_ended"} == {"done"}


def test_epochs_of_swe_members(graph_of: GraphOf, lab: Lab) -> None:
    """Members are checkpoints after T, 2T and 3T epochs; the learning rate is constant from the floor of the cosine on."""
    graph = graph_of(methods=[{"swe": {"floor": 0.05}}])
    lab.run(graph)
    assert [member.epoch for member in graph.cells[0].members] == [4, 8, 12]
    history = lab.store.meta(graph.cells[0].members[-1].key)["history"]
    fork_epoch = harness.Recipe(**RECIPE_VALUES).epoch_at(0.05)
    assert [record["epoch"] for record in history] == list(range(fork_epoch + 1, 13))
    assert {record["learning_rate"] for record in history} == {0.05}


RECIPE_VALUES = {name: value for name, value in RECIPE.items() if name != "augmentation"}


def test_joint_connectivity_of_networks_with_batchnorm(graph_of: GraphOf, lab: Lab) -> None:
    """Recomputed and interpolated statistics give different values."""
    values = []
    for metric in ("joint_connectivity", {"joint_connectivity": {"correction": "none"}}):
        architectures = [{"perceptron": {"batchnorm": True}}]
        lab.run(graph_of(architectures=architectures, methods=["deep"], metrics=[metric]))
        rows = read_rows(lab.out)
        [value] = rows[rows["metric"] == "joint_connectivity"]["value"]
        values.append(value)
    assert values[0] != values[1]


def test_joint_connectivity_of_one_member(graph_of: GraphOf, lab: Lab) -> None:
    """It is zero for every method."""
    lab.run(graph_of(members=1, methods=[*METHODS, "permuted", "multi_permuted"]))
    rows = read_rows(lab.out)
    assert set(rows[rows["metric"] == "joint_connectivity"]["value"]) == {0.0}


def test_versions_in_rows(graph_of: GraphOf, lab: Lab) -> None:
    """Rows have the versions of metric, method and objective, with the options that differ from their defaults."""
    metrics = ["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]
    lab.run(graph_of(metrics=metrics))
    rows = read_rows(lab.out)
    versions = rows[rows["main"]].groupby("metric")["metric_version"].unique().map(list).to_dict()
    assert versions["ensemble_accuracy"] == ["ensemble_accuracy@1"]
    assert versions["joint_connectivity"] == ['joint_connectivity@1{"draws":3}']
    assert set(rows["method_version"]) == {"deep@1", "constrained@1"}

    class Halved(harness.Objective):
        name = "halved"

        def loss(self, logits: torch.Tensor, labels: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(logits, labels) / 2

    catalogue = toys.catalogue(("objective", Halved))
    lab.run(graph_of(catalogue, metrics=metrics, objective="halved"), catalogue)
    assert set(rows["objective"]) == {"cross_entropy@1"}
    assert set(read_rows(lab.out)["objective"]) == {"halved@1"}


def test_metric_with_labels(graph_of: GraphOf, lab: Lab) -> None:
    """Each entry's label names its rows and the rows of its further values; the entry without a label keeps its keys."""
    alone = graph_of(metrics=["pairwise_connectivity"])
    few = {"pairwise_connectivity": {"points": 3, "label": "few"}}
    same = {"pairwise_connectivity": {"label": "same"}}
    graph = graph_of(metrics=["pairwise_connectivity", few, same], equivalence={"few": 0.5})
    measures = graph.cells[0].measures
    assert measures["pairwise_connectivity"].key == measures["same"].key == alone.cells[0].measures["pairwise_connectivity"].key
    lab.run(graph)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    main = rows[rows["main"]].set_index("metric")
    assert main.loc["few", "title"].iloc[0] == "few"
    assert main.loc["pairwise_connectivity", "title"].iloc[0] == "Pairwise connectivity"
    assert list(main.loc["same", "value"]) == list(main.loc["pairwise_connectivity", "value"])
    names = set(rows["metric"])
    assert {"pairwise_connectivity_worst_pair", "few_worst_pair", "pairwise_barrier", "few_pairwise_barrier"} <= names
    assert {"few_pairwise_curve/0-1/0.5", "pairwise_curve/0-1/0.1"} <= names
    assert "few_pairwise_curve/0-1/0.1" not in names


def test_label_that_another_metric_has(graph_of: GraphOf, lab: Lab) -> None:
    """The cell of a value whose name another metric owns fails with both names."""
    clashing = {"joint_connectivity": {"label": "pairwise_connectivity_worst"}}
    worst = {"pairwise_connectivity": {"points": 3, "label": "pairwise_connectivity_worst_worst_draw"}}
    lab.run(graph_of(metrics=[clashing, worst]))
    rows = read_rows(lab.out)
    (message,) = set(rows[rows["status"] == "failed"]["message"])
    assert message == (
        "metric 'pairwise_connectivity_worst' gives a value named 'pairwise_connectivity_worst_worst_draw', "
        "as metric 'pairwise_connectivity_worst_worst_draw' does; rename it"
    )
