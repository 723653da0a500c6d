"""Seconds of tasks, from those of similar tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.api.task import Task
from harness.plan.duration_model import DurationModel, epoch_costs, most_informative_device, plugin_name
from harness.plan.graph import Graph
from harness.plan.work_class import Timing, WorkClass, work_class

GraphOf = Callable[..., Graph]
CPU = "cpu (Ryzen)"
METHODS = ["deep", "distilled_deep"]


def classes(graph: Graph) -> dict[str, WorkClass]:
    """Return the classes of trainings by objective, and of other tasks by kind."""
    found = {}
    for task in graph.tasks.values():
        work = work_class(task.spec)
        assert work is not None
        found[plugin_name(work.plugin) if task.kind == "train" else task.kind] = work
    return found


def trainings(graph: Graph, objective: str) -> list[Task]:
    """Return the trainings with an objective."""
    found = []
    for task in graph.tasks.values():
        work = work_class(task.spec)
        if work is not None and plugin_name(work.plugin) == objective:
            found.append(task)
    return found


@pytest.fixture
def graph(graph_of: GraphOf) -> Graph:
    """A graph with trainings of two objectives, of 4 epochs each."""
    return graph_of(methods=METHODS, members=2, metrics=["ensemble_accuracy"])


def model(graph: Graph, *timings: Timing, device: str = CPU) -> DurationModel:
    """Return the model of a device."""
    return DurationModel(device, timings, epoch_costs(graph.tasks.values()))


def test_epochs_times_the_median(graph: Graph) -> None:
    """A training takes its epochs times the median seconds of its objective, a measurement the median of its metric."""
    known = classes(graph)
    timings = [Timing(known["cross_entropy"], CPU, seconds) for seconds in (2.0, 100.0, 3.0)]
    timings += [Timing(known["distillation"], CPU, 5.0), Timing(known["measure"], CPU, 7.0)]
    durations = model(graph, *timings).durations(graph.tasks)
    assert {durations.seconds[task.key] for task in trainings(graph, "cross_entropy")} == {4 * 3.0}
    assert {durations.seconds[task.key] for task in trainings(graph, "distillation")} == {4 * 5.0}
    measures = [key for key, task in graph.tasks.items() if task.kind == "measure"]
    assert {durations.seconds[key] for key in measures} == {7.0}
    assert durations.missing == ()
    assert durations.missing_evaluation == (known["predict"],)
    assert {rate.count for rate in durations.rates} == {3, 1}


def test_distilled_epoch_that_was_not_measured(graph: Graph) -> None:
    """It takes 4/3 of the measured epoch of cross-entropy, and an epoch of cross-entropy 3/4 of a distilled one."""
    known = classes(graph)
    durations = model(graph, Timing(known["cross_entropy"], CPU, 3.0)).durations(graph.tasks)
    assert [durations.seconds[task.key] for task in trainings(graph, "distillation")] == pytest.approx([16.0, 16.0])
    durations = model(graph, Timing(known["distillation"], CPU, 4.0)).durations(graph.tasks)
    assert [durations.seconds[task.key] for task in trainings(graph, "cross_entropy")] == pytest.approx([12.0, 12.0])


def test_other_devices_architectures_and_precisions(graph: Graph) -> None:
    """They say nothing."""
    work = classes(graph)["cross_entropy"]
    others = [
        Timing(work, "NVIDIA H100", 1.0),
        Timing(replace(work, architecture='{"name":"vit","options":{}}'), CPU, 1.0),
        Timing(replace(work, dataset='{"name":"digits","options":{}}'), CPU, 1.0),
        Timing(replace(work, precision="bf16"), CPU, 1.0),
    ]
    durations = model(graph, *others).durations(graph.tasks)
    assert {plugin_name(missing.plugin) for missing in durations.missing} == {"cross_entropy", "distillation"}
    assert set(durations.seconds.values()) == {0.0}


def test_nearest_batch_size(graph: Graph) -> None:
    """If only other batch sizes were measured, the nearest one counts."""
    work = classes(graph)["cross_entropy"]
    far, near = replace(work, batch_size=512), replace(work, batch_size=24)
    found = model(graph, Timing(far, CPU, 1.0), Timing(near, CPU, 2.0)).rate(work)
    assert found is not None
    assert found.seconds == 2.0
    exact = model(graph, Timing(near, CPU, 2.0), Timing(work, CPU, 9.0)).rate(work)
    assert exact is not None
    assert exact.seconds == 9.0


def test_siblings_and_single_networks(graph: Graph) -> None:
    """Trainings in a group take what siblings took, those alone what single ones took; either stands in for the other."""
    work = classes(graph)["cross_entropy"]
    both = model(graph, Timing(work, CPU, 3.0, siblings=1), Timing(work, CPU, 2.0, siblings=5))
    seconds = [both.rate(work, siblings) for siblings in (False, True)]
    assert [rate.seconds for rate in seconds if rate] == [3.0, 2.0]
    alone = model(graph, Timing(work, CPU, 3.0)).rate(work, siblings=True)
    assert alone is not None
    assert alone.seconds == 3.0
    (first, *_) = trainings(graph, "cross_entropy")
    assert both.durations({first.key: first}).seconds == {first.key: 12.0}
    assert set(both.durations(graph.tasks).seconds.values()) >= {8.0}


def test_device_with_the_most_epochs(graph: Graph) -> None:
    """The device is chosen whose timings cover the most epochs to be trained; then the one with the most timings."""
    work = classes(graph)["cross_entropy"]
    elsewhere = replace(work, dataset='{"name":"digits","options":{}}')
    timings = [Timing(elsewhere, "a", 1.0), Timing(elsewhere, "a", 1.0), Timing(work, "b", 1.0)]
    assert most_informative_device(timings, graph.tasks.values()) == "b"
    assert most_informative_device([*timings, *[Timing(work, "c", 1.0)] * 2], graph.tasks.values()) == "c"
    assert most_informative_device([], graph.tasks.values()) == ""


def test_versions_and_digests(graph: Graph) -> None:
    """A class does not depend on a data set's fingerprint, nor on the number of epochs or the learning rate."""
    (task, *_) = trainings(graph, "cross_entropy")
    setting = task.spec.setting  # type: ignore[union-attr]
    changed = replace(setting, dataset={**setting.dataset, "fingerprint": "x"}, recipe={**setting.recipe, "epochs": 9})
    assert work_class(replace(task.spec, setting=changed)) == work_class(task.spec)  # type: ignore[call-arg]


def test_derivation_that_trains_and_was_not_measured(graph_of: GraphOf) -> None:
    """It takes its cost in epochs of the same network; one that was measured takes what was measured."""
    from descents import BENCHMARK, CATALOGUE

    graph = graph_of(CATALOGUE, **BENCHMARK)
    known = classes(graph)
    [key] = [key for key, task in graph.tasks.items() if task.kind == "derive"]
    training = Timing(known["cross_entropy"], CPU, 3.0)
    durations = model(graph, training).durations(graph.tasks)
    assert durations.seconds[key] == 2 * 3.0
    assert known["derive"] not in durations.missing_evaluation
    measured = model(graph, training, Timing(known["derive"], CPU, 5.0)).durations(graph.tasks)
    assert measured.seconds[key] == 5.0
    nothing = model(graph).durations(graph.tasks)
    assert nothing.seconds[key] == 0.0
    assert known["derive"] in nothing.missing_evaluation
