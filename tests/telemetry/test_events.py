"""Events: their JSON, and what observers see of a run."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from conftest import Lab
from harness import events
from harness.plan.graph import Graph
from harness.telemetry.event_log import EventLog

GraphOf = Callable[..., Graph]
CLASSES = typing.get_args(events.AnyEvent)
PLUGINS_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
SAMPLES = {
    "str": "text",
    "bool": True,
    "int": 3,
    "float": 0.5,
    "tuple[str, ...]": ("a", "b"),
    "Mapping[str, float]": {"training": 0.5},
}


def sample(cls: type[events.Event]) -> events.Event:
    """Return an event of a class with a value in every field."""
    values = {}
    for field in fields(cls):
        kind = str(field.type).removesuffix(" | None")
        if kind in SAMPLES:
            values[field.name] = SAMPLES[kind]
    return cls(**{**values, "event": cls.event})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_event_is_read_back_as_it_was_written(cls: type[events.Event]) -> None:
    """The line of an event describes it completely, but for the folder that the line is in."""
    event = sample(cls)
    line = json.loads(json.dumps(event.to_json()))
    assert "folder" not in line
    assert events.event_from_json({**line, "folder": "text"}) == event


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_event_cannot_be_changed(cls: type[events.Event]) -> None:
    """All observers see one event; none can change it for the others."""
    with pytest.raises(FrozenInstanceError):
        sample(cls).time = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_class_and_fields_are_documented(cls: type[events.Event]) -> None:
    """docs/plugins.md names every class, and every field that it adds."""
    assert f"`{cls.__name__}`" in PLUGINS_PAGE
    assert cls.__doc__
    base = events.TaskEvent if issubclass(cls, events.TaskEvent) else events.Event
    known = {field.name for field in fields(base)}
    for field in fields(cls):
        if field.name not in known:
            assert f"`{field.name}`" in PLUGINS_PAGE, field.name


def test_fields_of_all_events_are_documented() -> None:
    """docs/plugins.md names what all events, and all events of tasks, have in common."""
    for field in fields(events.TaskEvent):
        assert f"`{field.name}`" in PLUGINS_PAGE, field.name


def test_names_of_events_are_distinct() -> None:
    """Each class has a name of its own in `events.jsonl`."""
    names = [cls.event for cls in CLASSES]
    assert len(set(names)) == len(names) > 15


@pytest.mark.parametrize(
    "value", [None, [], {}, {"event": "outcome"}, {"event": "epoch", "task": "a"}, {"event": "worker_ready", "process": "x"}]
)
def test_other_values_are_no_events(value: object) -> None:
    """An unknown name, a missing field or a value of another type raises ValueError."""
    with pytest.raises(ValueError, match="no event: "):
        events.event_from_json(value)


def of_class(lab: Lab, cls: type[events.TaskEvent]) -> list[events.TaskEvent]:
    return [event for event in lab.events if isinstance(event, cls)]


def test_epochs_name_what_they_are_about(graph_of: GraphOf, lab: Lab) -> None:
    """An observer learns folder, labels, seed, member, methods, objective, description, loss, accuracy and seconds."""
    graph = graph_of(
        seeds=[7],
        members=2,
        datasets=[{"blobs": {"label": "dots"}}],
        architectures=[{"perceptron": {"label": "small"}}],
        methods=[{"deep": {"label": "independent"}}, {"constrained": {"fork_epoch": 1}}, "permuted"],
    )
    lab.run(graph)
    epochs = [event for event in lab.events if isinstance(event, events.EpochEnded)]
    # member 0 of `constrained` is the same training as that of `independent`; member 1 is a fork of its first epoch
    methods = {(event.member, event.methods) for event in epochs}
    assert methods == {
        (0, ("independent", "constrained", "permuted")),
        (1, ("independent", "permuted")),
        (1, ("constrained",)),
    }
    for event in epochs:
        assert event.folder == str(lab.out)
        assert (event.dataset, event.architecture, event.seed) == ("dots", "small", 7)
        assert event.objective == "cross_entropy"
        assert event.description == f"perceptron on blobs, seed 7 member {event.member}, cross-entropy"
        assert 1 <= event.epoch <= event.until == 4 or event.until == 1
        history = lab.store.meta(event.task)["history"]
        [record] = [record for record in history if record["epoch"] == event.epoch]
        assert (event.loss, event.accuracy, event.seconds) == (record["loss"], record["accuracy"], record["seconds"])


def test_parts_of_a_training_have_its_trajectory(graph_of: GraphOf, lab: Lab) -> None:
    """A training that a fork cuts in two has one key, and the first method that needs its end, not that of the fork."""
    lab.run(graph_of(members=2, methods=[{"constrained": {"fork_epoch": 1, "label": "forked"}}, "deep", "permuted"]))
    found: dict[str, list[tuple[int | None, str, tuple[str, ...], int]]] = {}
    for event in lab.events:
        if isinstance(event, events.EpochEnded):
            found.setdefault(event.trajectory, []).append((event.member, event.trained_for, event.methods, event.epoch))
        elif isinstance(event, events.TaskEvent) and event.kind != "train":
            assert (event.trajectory, event.trained_for) == ("", "")
    parts = sorted(found.values())
    everyone, alone, pair = ("forked", "deep", "permuted"), ("forked",), ("deep", "permuted")
    assert parts == [
        [(0, "forked", everyone, epoch) for epoch in (1, 2, 3, 4)],
        [(1, "deep", pair, epoch) for epoch in (1, 2, 3, 4)],
        [(1, "forked", alone, epoch) for epoch in (2, 3, 4)],
    ]


def test_tasks_of_every_kind_name_what_they_are_about(graph_of: GraphOf, lab: Lab) -> None:
    """Checks, derivations, predictions and measurements, too; costs add up to what the run trained."""
    state = lab.run(graph_of(methods=["deep", "permuted", {"distilled": {"fork_epoch": 1}}]))
    ended = [event for event in lab.events if isinstance(event, events.TaskEnded)]
    assert {event.kind for event in ended} == {"check", "train", "derive", "predict", "measure"}
    for event in ended:
        assert event.status == "done"
        assert event.seconds is not None
        assert event.seconds >= 0
        assert (event.dataset, event.architecture) == ("blobs", "perceptron")
        assert event.methods
        assert "perceptron on blobs" in event.description
    by_kind = {kind: [event for event in ended if event.kind == kind] for kind in ("check", "derive", "predict", "measure")}
    assert {event.objective for event in by_kind["check"]} == {"cross_entropy", "distillation", ""}
    assert {event.methods for event in by_kind["derive"]} == {("permuted",)}
    assert {event.member for event in by_kind["predict"]} == {0, 1, 2}
    assert {event.metric for event in by_kind["measure"]} == {"ensemble_accuracy", "joint_connectivity"}
    assert {event.seed for event in by_kind["measure"]} == {0}
    assert sum(event.cost for event in ended) == pytest.approx(state.trained)


def test_events_are_the_lines_of_the_file(graph_of: GraphOf, lab: Lab) -> None:
    """`events.jsonl` holds what observers saw, in order."""
    lab.run(graph_of(methods=["deep"]))
    lines = (lab.out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    read = [events.event_from_json({**json.loads(line), "folder": str(lab.out)}) for line in lines]
    assert read == lab.events
    assert of_class(lab, events.TaskStarted)


def test_observer_that_raises_gets_no_more_events(tmp_path: Path) -> None:
    """It is named once, in the file and to the others, who go on."""
    seen: list[events.Event] = []

    def raising(event: events.Event) -> None:
        raise KeyError("no")

    log = EventLog(tmp_path / "events.jsonl", {"first": raising, "second": seen.append})
    log(events.RunWarning(message="one"))
    log(events.RunWarning(message="two"))
    log.close()
    assert [event.event for event in seen] == ["observer_failed", "warning", "warning"]
    failed = seen[0]
    assert isinstance(failed, events.ObserverFailed)
    assert failed.observer == "first"
    assert failed.message.startswith("KeyError: 'no' (test_events.py:")
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3


def test_half_a_line_of_a_killed_run_stays_alone(tmp_path: Path) -> None:
    """The next run's first event begins a line of its own."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "epo')
    log = EventLog(path, {})
    log(events.RunEnded(status="done"))
    log.close()
    first, second = path.read_bytes().splitlines()
    assert first == b'{"event": "epo'
    assert json.loads(second)["status"] == "done"


def test_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """The error is kept; observers still get the event."""
    seen: list[events.Event] = []
    log = EventLog(tmp_path / "events.jsonl", {"one": seen.append})
    log.close()
    log(events.RunEnded(status="done"))
    assert log.trouble
    assert len(seen) == 1
