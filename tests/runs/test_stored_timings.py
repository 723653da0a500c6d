"""Seconds of tasks in the metadata of stored objects."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Lab
from harness.plan.graph import Graph
from harness.plan.work_class import WorkClass, work_class
from harness.runs.stored_timings import is_cpu, stored_timings, timings_of
from harness.store import Store

GraphOf = Callable[..., Graph]


@pytest.fixture
def graph(graph_of: GraphOf, lab: Lab) -> Graph:
    """A small graph whose tasks are all done."""
    graph = graph_of(methods=["deep"], members=2)
    lab.run(graph)
    return graph


def classes(graph: Graph) -> set[WorkClass]:
    """Return the classes of all tasks of a graph."""
    return {work for work in (work_class(task.spec) for task in graph.tasks.values()) if work is not None}


def training(graph: Graph, store: Store) -> dict[str, Any]:
    """Return the metadata of a training of four epochs on a GPU, each with known seconds."""
    key = next(key for key, task in graph.tasks.items() if task.kind == "train")
    meta = copy.deepcopy(store.meta(key))
    assert meta["spec"]["epoch"] == 4
    meta["stepping"] = [{"epoch": 0.0, "siblings": 1, "device": "NVIDIA H100"}]
    for record, seconds in zip(meta["history"], (9.0, 2.0, 3.0, 7.0), strict=True):
        record["seconds"] = seconds
    return meta


def test_timings_of_a_run(graph: Graph, lab: Lab) -> None:
    """Every class of tasks was measured, on this CPU; each task once."""
    timings = stored_timings(lab.store, classes(graph), graph.tasks)
    assert {timing.work for timing in timings} == classes(graph)
    assert {timing.siblings for timing in timings} == {1}
    assert all(is_cpu(timing.device) and timing.seconds >= 0 for timing in timings)
    assert len(timings) == len(graph.tasks)


def test_epochs_of_a_training(graph: Graph, lab: Lab) -> None:
    """The median of all epochs but the first counts, which includes the set-up."""
    (timing,) = timings_of(training(graph, lab.store))
    assert (timing.seconds, timing.device, timing.siblings) == (3.0, "NVIDIA H100", 1)
    assert not is_cpu(timing.device)


def test_siblings_that_were_stepped_together(graph: Graph, lab: Lab) -> None:
    """The seconds of an epoch are those of the group; they are divided by its size."""
    meta = training(graph, lab.store)
    meta["stepping"][0]["siblings"] = 5
    (timing,) = timings_of(meta)
    assert (timing.seconds, timing.siblings) == (0.6, 5)


def test_training_that_was_continued_elsewhere(graph: Graph, lab: Lab) -> None:
    """Each device has its own epochs; the only epoch of a process counts though it includes the set-up."""
    meta = training(graph, lab.store)
    meta["stepping"].append({"epoch": 3.0, "siblings": 1, "device": "cpu"})
    meta["provenance"]["processor"] = "Ryzen"
    found = {timing.device: timing.seconds for timing in timings_of(meta)}
    assert found == {"NVIDIA H100": 2.5, "cpu (Ryzen)": 7.0}


def test_epochs_before_the_start(graph: Graph, lab: Lab) -> None:
    """Epochs that another task has trained do not count again."""
    meta = training(graph, lab.store)
    meta["spec"]["from"] = {"epoch": 2, "object": "0" * 64, "part": "weights", "own": True}
    (timing,) = timings_of(meta)
    assert timing.seconds == 5.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("spec", {"kind": "train"}), ("spec", 3), ("stepping", 7), ("history", [{"epoch": 1}]), ("history", "abc")],
)
def test_metadata_of_strangers(graph: Graph, lab: Lab, field: str, value: Any) -> None:
    """Objects whose metadata are not as expected are left out."""
    meta = training(graph, lab.store)
    meta[field] = value
    key = "ab" * 32
    lab.store.put(key, {name: meta[name] for name in meta if name not in ("key", "files")})
    timings = stored_timings(lab.store, classes(graph), [key])
    assert len(timings) == len(graph.tasks)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, "soon"])
def test_seconds_that_are_none(graph: Graph, lab: Lab, seconds: Any) -> None:
    """They are refused."""
    meta = training(graph, lab.store)
    meta["history"][1]["seconds"] = seconds
    with pytest.raises(ValueError, match=r"duration|could not convert"):
        timings_of(meta)


def test_enough_timings(graph_of: GraphOf, lab: Lab) -> None:
    """Reading ends when there are some of each class."""
    graph = graph_of(methods=["deep"], members=2, seeds=list(range(8)))
    lab.run(graph)
    trainings = {work for work in classes(graph) if work.kind == "train"}
    assert len(graph.tasks) > 20
    keys = [key for key, task in graph.tasks.items() if task.kind == "train"]
    assert len(stored_timings(lab.store, trainings, keys)) == 8
