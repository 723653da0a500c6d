"""Wall time and critical path of a graph whose epochs take known times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import RECIPE, Lab
from harness.plan.graph import Graph
from harness.plan.work_class import Timing, work_class
from harness.runs.wall_time_estimate import (
    durations_from_calibration,
    durations_from_store,
    durations_from_timings,
    estimate,
    tasks_to_do,
)

GraphOf = Callable[..., Graph]
CPU = "cpu (Ryzen)"
GPU = "NVIDIA H100"


@pytest.fixture
def graph(graph_of: GraphOf) -> Graph:
    """Five deep members of 20 epochs, and SWE, which goes on from epoch 17 of the first one, for 83."""
    return graph_of(methods=["deep", "swe"], members=5, recipe={**RECIPE, "epochs": 20}, metrics=["ensemble_accuracy"])


def timings(graph: Graph, device: str, *, kinds: tuple[str, ...] = ("train", "predict", "measure")) -> list[Timing]:
    """Return timings of 2 s per epoch, and 1 s for every other task."""
    found = {}
    for task in graph.tasks.values():
        work = work_class(task.spec)
        if work is not None and work.kind in kinds:
            found[work] = Timing(work, device, 2.0 if work.kind == "train" else 1.0)
    return list(found.values())


def test_chain_of_swe_bounds_everything(graph: Graph) -> None:
    """It takes 100 epochs, 202 s with a prediction and a measurement. On three workers, two predictions come in between."""
    tasks = tasks_to_do(graph, graph.tasks)
    durations = durations_from_timings(graph, tasks, timings(graph, CPU), "here")
    for workers, wall_time in ((3, 204), (50, 202)):
        found = estimate(graph, tasks, workers, durations)
        assert found.unit == "seconds"
        assert found.path_length == found.bound == 202
        assert found.wall_time == wall_time
        assert found.epochs == 100
    trainings = [step for step in found.path if step.task.kind == "train"]
    assert trainings[0].first_epoch == 0
    assert sum(step.last_epoch - step.first_epoch for step in trainings) == 100
    assert {step.facts.methods for step in trainings[-4:]} == {("swe",)}
    assert found.path[-1].facts.methods == ("swe",)
    assert found.path[-1].task.kind == "measure"


def test_one_worker(graph: Graph) -> None:
    """It does all the work: 183 epochs, predictions and measurements."""
    tasks = tasks_to_do(graph, graph.tasks)
    found = estimate(graph, tasks, 1, durations_from_timings(graph, tasks, timings(graph, CPU), "here"))
    epochs = sum(task.cost for task in tasks.values())
    others = sum(task.kind in ("predict", "measure") for task in tasks.values())
    assert epochs == 183
    assert found.wall_time == found.work == found.bound == 2 * epochs + others


def test_siblings_on_a_gpu(graph: Graph) -> None:
    """One GPU takes as long for siblings side by side as for one after another, since the seconds are those of one network."""
    tasks = tasks_to_do(graph, graph.tasks)
    on_cpu = estimate(graph, tasks, 1, durations_from_timings(graph, tasks, timings(graph, CPU), "here"))
    on_gpu = estimate(graph, tasks, 1, durations_from_timings(graph, tasks, timings(graph, GPU), "here"))
    assert on_gpu.wall_time == on_cpu.wall_time


def test_evaluation_that_was_not_measured(graph: Graph) -> None:
    """It takes no time, and is named."""
    tasks = tasks_to_do(graph, graph.tasks)
    durations = durations_from_timings(graph, tasks, timings(graph, CPU, kinds=("train",)), "here")
    found = estimate(graph, tasks, 50, durations)
    assert found.wall_time == 200
    assert found.durations is not None
    assert sorted(work.kind for work in found.durations.missing_evaluation) == ["measure", "predict"]


def test_training_that_was_not_measured(graph: Graph) -> None:
    """The estimate is in epochs, and a line says what is missing."""
    tasks = tasks_to_do(graph, graph.tasks)
    reason = durations_from_timings(graph, tasks, timings(graph, CPU, kinds=("predict",)), "runs/store")
    assert reason == (
        f"runs/store: no epoch of perceptron on blobs (cross_entropy, fp32, batch size 16) was measured on {CPU}; "
        "`--calibrate` measures one, until then the estimate is in epochs"
    )
    found = estimate(graph, tasks, 4, reason)
    assert (found.unit, found.wall_time, found.path_length, found.work) == ("epochs", 100, 100, 183)
    assert found.reason == reason


def test_store_that_is_missing(graph: Graph, tmp_path: Path) -> None:
    """A line names it, and nothing is created."""
    folder = tmp_path / "none"
    reason = durations_from_store(graph, tasks_to_do(graph, graph.tasks), folder)
    expected = "no such store, so no epoch was measured; `--calibrate` measures one, until then the estimate is in epochs"
    assert reason == f"{folder}: {expected}"
    assert not folder.exists()


def test_store_of_a_run(graph_of: GraphOf, lab: Lab) -> None:
    """What a run has measured serves for other seeds; only what is pending counts."""
    lab.run(graph_of(methods=["deep"], members=2))
    wider = graph_of(methods=["deep", "swe"], members=2, seeds=[0, 1])
    tasks = tasks_to_do(wider, wider.pending(lab.store))
    durations = durations_from_store(wider, tasks, lab.store.root)
    assert not isinstance(durations, str)
    found = estimate(wider, tasks, 2, durations)
    assert found.unit == "seconds"
    assert found.wall_time > 0
    assert durations.missing_evaluation == ()
    done = graph_of(methods=["deep"], members=2)
    nothing = tasks_to_do(done, done.pending(lab.store))
    found = estimate(done, nothing, 2, durations_from_store(done, nothing, lab.store.root))
    assert (found.wall_time, found.path, found.work) == (0, (), 0)


def test_calibration_beside_a_store(graph_of: GraphOf, lab: Lab) -> None:
    """Trainings take what was calibrated; the store says how long a measurement takes on the same device."""
    done = graph_of(methods=["deep"], members=2)
    lab.run(done)
    wider = graph_of(methods=["deep"], members=2, seeds=[1])
    tasks = tasks_to_do(wider, wider.pending(lab.store))
    calibrated = timings(wider, GPU, kinds=("train", "predict"))
    elsewhere = durations_from_calibration(wider, tasks, calibrated, lab.store.root)
    assert not isinstance(elsewhere, str)
    assert {work.kind for work in elsewhere.missing_evaluation} == {"measure"}
    stored = durations_from_store(wider, tasks, lab.store.root)
    assert not isinstance(stored, str)
    calibrated = timings(wider, stored.device, kinds=("train", "predict"))
    here = durations_from_calibration(wider, tasks, calibrated, lab.store.root)
    assert not isinstance(here, str)
    assert here.missing_evaluation == ()
    assert {here.seconds[key] for key, task in tasks.items() if task.kind == "train"} == {2.0 * 4}
