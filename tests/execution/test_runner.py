"""Whole runs on toys: sharing, resuming to the bit, failures that stay where they belong, damage, company."""

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
from conftest import RECIPE, Lab
from harness.errors import Interrupted
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.events import Event, TaskEnded

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "swe", {"distilled": {"fork_epoch": 1}}, "distilled_deep"]


def weights(store: Store, graph: Graph) -> dict[str, dict[str, torch.Tensor]]:
    """Return every member's weights."""
    members = {m.key: m.location for cell in graph.cells for m in cell.members}
    return {key: store.tensors(where.object, where.part) for key, where in members.items()}


def equal(left: dict[str, dict[str, torch.Tensor]], right: dict[str, dict[str, torch.Tensor]]) -> bool:
    """Say whether two sets of weights are equal to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k][n], right[k][n]) for k in left for n in left[k])


def test_run_measures_every_cell(graph_of: GraphOf, lab: Lab) -> None:
    """Every cell has every metric, with the counts of epochs beside them, and the planned number of epochs was trained."""
    graph = graph_of(methods=METHODS)
    ledger = lab.run(graph)
    rows = read_rows(lab.out)
    main = rows[rows["main"]]
    assert set(main["status"]) == {"done"}
    assert main.groupby("method").size().to_dict() == dict.fromkeys(
        ["deep", "constrained", "swe", "distilled", "distilled_deep"], 3
    )
    assert ledger.trained == pytest.approx(sum(cell.epochs_new for cell in graph.cells))
    assert main[main["metric"] == "ensemble_accuracy"]["value"].between(25, 100).all()


def test_second_run_trains_nothing(graph_of: GraphOf, lab: Lab) -> None:
    """A repeated run does no task and gives the same rows, to the bit."""
    graph = graph_of()
    lab.run(graph)
    before = (lab.out / "results.csv").read_bytes()
    assert lab.run(graph).done == 0
    assert (lab.out / "results.csv").read_bytes() == before


def test_new_seed_metric_and_method_do_only_what_is_new(graph_of: GraphOf, lab: Lab) -> None:
    """A metric costs no training, a method its own part, a seed its own cells."""
    lab.run(graph_of())
    assert lab.run(graph_of(metrics=["ensemble_accuracy", "joint_connectivity", "brier_score"])).trained == 0
    graph = graph_of(methods=["deep", {"constrained": {"fork_epoch": 1}}, "swe"])
    assert lab.run(graph).trained == graph.cells[2].epochs_new
    both = graph_of(seeds=[0, 1])
    assert lab.run(both).trained == sum(cell.epochs_new for cell in both.cells if cell.spec.seed == 1)


@pytest.mark.parametrize("steps", [1, 7, 23, 40])
def test_stopped_run_resumes_to_the_same_bits(graph_of: GraphOf, lab: Lab, tmp_path: Path, steps: int) -> None:
    """A run stopped at several moments and resumed has the weights and rows of an undisturbed one."""
    graph = graph_of(methods=METHODS)
    undisturbed = Store(tmp_path / "undisturbed")
    lab.run(graph, store=undisturbed)
    rows = (lab.out / "results.csv").read_bytes()
    stops = 0
    while True:
        looks = iter(range(10**6))
        try:
            lab.run(graph, stopping=lambda looks=looks, last=steps + 31 * stops: next(looks) >= last)
            break
        except Interrupted:
            stops += 1
            assert (lab.out / "results.csv").exists()
    assert stops > 0
    assert equal(weights(lab.store, graph), weights(undisturbed, graph))
    assert (lab.out / "results.csv").read_bytes() == rows
    assert list((lab.store.root / "progress").rglob("*.safetensors")) == []


def test_interrupted_run_says_what_is_missing(graph_of: GraphOf, lab: Lab) -> None:
    """Rows of a stopped run hold every cell, the missing ones as missing."""
    with pytest.raises(Interrupted):
        lab.run(graph_of(), stopping=lambda: True)
    rows = read_rows(lab.out)
    assert set(rows[rows["metric"] == "ensemble_accuracy"]["status"]) == {"missing"}


def test_diverged_member_fails_its_cells_only(graph_of: GraphOf, lab: Lab) -> None:
    """A member that diverges fails the cells that need it, with the epoch in the message; the rest is measured."""
    graph = graph_of(
        architectures=["perceptron", {"perceptron": {"width": 8, "label": "hot"}}],
        settings=[{"architecture": "hot", "recipe": {"learning_rate": 1e12, "warmup": 0.0}}],
    )
    ledger = lab.run(graph)
    rows = read_rows(lab.out)
    main = rows[rows["metric"] == "ensemble_accuracy"]
    assert set(main[main["architecture"] == "perceptron"]["status"]) == {"done"}
    failed = main[main["architecture"] == "hot"]
    assert set(failed["status"]) == {"failed"}
    assert failed["message"].str.match(r"diverged in epoch 1: the training loss is").all()
    assert ledger.failures
    assert list((lab.store.root / "failures").rglob("*.json"))


def test_failed_cells_are_tried_again(graph_of: GraphOf, lab: Lab) -> None:
    """What failed for a reason outside the task succeeds in the next run."""
    broken = {"now": True}

    class Moody(harness.Metric):
        name = "moody"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            if broken["now"]:
                raise RuntimeError("not today")
            return [harness.MetricValue("moody", float("nan"))]

    catalogue = toys.catalogue(("metric", Moody))
    graph = graph_of(catalogue, metrics=["ensemble_accuracy", "moody"], methods=["deep"])
    ledger = lab.run(graph, catalogue)
    rows = read_rows(lab.out).set_index("metric")
    assert rows.loc["ensemble_accuracy", "status"] == "done"
    assert "RuntimeError: not today (test_runner.py:" in rows.loc["moody", "message"]
    assert len(ledger.failures) == 1
    broken["now"] = False
    assert not lab.run(graph, catalogue).failures
    rows = read_rows(lab.out).set_index("metric")
    assert rows.loc["moody", "status"] == "done"
    assert rows.loc["moody", "value"] != rows.loc["moody", "value"]


@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
def test_damaged_checkpoint_is_set_aside_and_made_again(graph_of: GraphOf, lab: Lab, file: str) -> None:
    """A byte flipped in a checkpoint that is needed again costs its training, not the run; the weights come out the same."""
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
    assert not lab.run(wider).failures
    assert lab.trained() == [member.key]
    assert list((lab.store.root / "set_aside").iterdir())
    assert equal(weights(lab.store, graph), before)


def test_cut_checkpoint_is_made_again(graph_of: GraphOf, lab: Lab) -> None:
    """A file cut short is seen by its size alone, before anything reads it."""
    graph = graph_of(methods=["deep"])
    lab.run(graph)
    member = graph.cells[0].members[0]
    os.truncate(lab.store.path(member.key), 100)
    lab.events.clear()
    lab.run(graph)
    assert lab.trained() == [member.key]


def test_object_damaged_for_good_fails_its_cells(graph_of: GraphOf, lab: Lab) -> None:
    """A disk that spoils what is written ends in failed cells, not in an endless run."""
    graph = graph_of(methods=["deep"], metrics=["ensemble_accuracy"])
    victim = graph.cells[0].members[0].key

    def spoil(event: Event) -> None:
        if isinstance(event, TaskEnded) and event.task == victim and event.status == "done":
            path = lab.store.path(victim)
            path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    ledger = lab.run(graph, observe=spoil)
    assert "does not match its digest" in next(iter(ledger.failures.values()))


def test_two_runs_at_once_share_the_work(graph_of: GraphOf, lab: Lab) -> None:
    """Two runs on one store do no training twice, and both have all rows."""
    graph = graph_of(methods=METHODS)
    other = lab.run_with_another(graph)
    started = [*lab.trainings_started(), *other.trainings_started()]
    assert len(started) == len(set(started)) == sum(task.kind == "train" for task in graph.tasks.values())
    assert (lab.out / "results.csv").read_bytes() == (other.out / "results.csv").read_bytes()


def test_failing_observer_stops_nobody(graph_of: GraphOf, lab: Lab) -> None:
    """An observer that raises is named once in the log and left out."""

    def angry(event: Event) -> None:
        raise KeyError("no")

    lab.run(graph_of(methods=["deep"]), observe=angry)
    log = [json.loads(line) for line in (lab.out / "events.jsonl").read_text().splitlines()]
    [failure] = [e["message"] for e in log if e["event"] == "observer_failed"]
    assert failure.startswith("KeyError: 'no' (test_runner.py:")
    assert not [e for e in log if e["event"] == "task_ended" and e["status"] != "done"]


def test_swe_samples_lie_at_the_right_epochs(graph_of: GraphOf, lab: Lab) -> None:
    """SWE equals one uninterrupted run by hand: the cosine down to the floor, held there, tapped at T, 2T and 3T."""
    graph = graph_of(methods=[{"swe": {"floor": 0.05}}])
    lab.run(graph)
    assert [m.epoch for m in graph.cells[0].members] == [4, 8, 12]
    history = lab.store.meta(graph.cells[0].members[-1].key)["history"]
    parting = harness.Recipe(**RECIPE_VALUES).epoch_at(0.05)
    assert [record["epoch"] for record in history] == list(range(parting + 1, 13))
    assert {record["learning_rate"] for record in history} == {0.05}


RECIPE_VALUES = {k: v for k, v in RECIPE.items() if k != "augmentation"}


def test_permuted_networks_keep_batchnorm_points_apart(graph_of: GraphOf, lab: Lab) -> None:
    """With BatchNorm, recomputed statistics give another q̄ than interpolated ones."""
    graph = graph_of(
        architectures=[{"perceptron": {"batchnorm": True}}],
        methods=["deep"],
        metrics=["joint_connectivity"],
    )
    lab.run(graph)
    first = read_rows(lab.out)
    graph = graph_of(
        architectures=[{"perceptron": {"batchnorm": True}}],
        methods=["deep"],
        metrics=[{"joint_connectivity": {"batchnorm": "interpolate"}}],
    )
    lab.run(graph)
    second = read_rows(lab.out)
    assert float(first["value"][0]) != float(second["value"][0])


def test_one_member_has_connectivity_zero(graph_of: GraphOf, lab: Lab) -> None:
    """M = 1 is measured: nothing to connect."""
    lab.run(graph_of(members=1, methods=[*METHODS, "permuted", "multi_permuted"]))
    rows = read_rows(lab.out)
    assert set(rows[rows["metric"] == "joint_connectivity"]["value"]) == {0.0}


def test_rows_say_the_versions_that_they_are_of(graph_of: GraphOf, lab: Lab) -> None:
    """Options of a metric that are not its defaults stand beside its version, and the objective has a column."""
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
