"""Progress of a run whose trainings continue from stored epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from conftest import Lab
from harness.api.specs import TrainSpec
from harness.execution.run_plan import RunPlan
from harness.plan.graph import Graph
from harness.runs.progress_lines import Lines
from harness.telemetry import events

GraphOf = Callable[..., Graph]


def with_a_stored_trunk(graph_of: GraphOf, lab: Lab) -> Graph:
    """Return the graph of one deep member, whose epoch 2 of 4 is stored as the trunk of constrained ones."""
    metrics = ["ensemble_accuracy"]
    lab.run(graph_of(methods=[{"constrained": {"fork_epoch": 2}}], members=2, metrics=metrics))
    return graph_of(methods=["deep"], members=1, metrics=metrics)


def test_epochs_of_a_shortened_training(graph_of: GraphOf, lab: Lab) -> None:
    """With epoch 2 of 4 stored, a training counts 2 epochs: half of them are done at epoch 3."""
    graph = with_a_stored_trunk(graph_of, lab)
    (training,) = [task for task in graph.tasks.values() if isinstance(task.spec, TrainSpec)]
    lab.store.quarantine(training.key)
    plan = RunPlan(graph)
    tasks = plan.update(graph.pending(lab.store))
    shortened = tasks[training.key]
    assert isinstance(shortened.spec, TrainSpec)
    assert (shortened.spec.start.epoch, shortened.cost) == (2, 2.0)
    printed: list[str] = []
    seconds = [0.0]
    lines = Lines(plan, printed.append, lambda: seconds[0])
    lines.show(events.RunPlanned(cells=1, tasks=1, epochs=2.0, epochs_in_all=4.0))
    seconds[0] = 100.0
    epoch = events.EpochEnded(
        task=training.key, kind="train", epoch=3, until=4, loss=1.0, accuracy=50.0, learning_rate=0.1, seconds=1.0
    )
    lines.show(replace(epoch, description="it"))
    assert printed[-1] == "training it, epoch 3 of 4: loss 1.0000, accuracy 50.0 % (1 of 2 epochs, 01:40 left)"


def test_cost_of_events_is_that_of_the_plan(graph_of: GraphOf, lab: Lab) -> None:
    """Observers learn what a training costs in this run, not what it would cost from the beginning."""
    graph = with_a_stored_trunk(graph_of, lab)
    (training,) = [task for task in graph.tasks.values() if isinstance(task.spec, TrainSpec)]
    lab.store.quarantine(training.key)
    lab.events.clear()
    lab.run(graph)
    (ended,) = [event for event in lab.events if isinstance(event, events.TaskEnded) and event.kind == "train"]
    assert (ended.task, ended.cost) == (training.key, 2.0)
