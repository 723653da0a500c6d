"""Task specs: their JSON, from which keys are computed and which task files hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from harness.api.specs import CheckSpec, TrainSpec, task_spec_from_json
from harness.api.task import key_of
from harness.errors import StoreError
from harness.execution.task_files import task_from_json, task_json
from harness.plan.graph import Graph
from harness.plan.tasks import check_task

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "permuted", {"distilled": {"fork_epoch": 1}}]


def test_every_task_is_read_back_from_its_file(graph_of: GraphOf) -> None:
    """Key, kind and spec of each kind of task are read back from JSON unchanged."""
    graph = graph_of(methods=METHODS)
    assert {task.kind for task in graph.tasks.values()} == {"train", "derive", "predict", "measure"}
    for task in graph.tasks.values():
        again = task_from_json(json.loads(json.dumps(task_json(task))))
        assert (again.key, again.kind, again.spec) == (task.key, task.kind, task.spec)
        assert key_of(again.spec.to_json()) == key_of(task.spec.to_json())


def test_key_of_a_check_is_that_of_its_json(graph_of: GraphOf) -> None:
    """Members with equal settings and objectives have the same check."""
    specs = [task.spec for task in graph_of(methods=["deep"]).tasks.values() if isinstance(task.spec, TrainSpec)]
    checks = [check_task(spec) for spec in specs]
    assert len(specs) == 3
    assert len({check.key for check in checks}) == 1
    assert checks[0].key == key_of(checks[0].spec.to_json())
    assert isinstance(checks[0].spec, CheckSpec)


def test_spec_is_frozen(graph_of: GraphOf) -> None:
    """A field of a spec cannot be set."""
    task = next(iter(graph_of().tasks.values()))
    with pytest.raises(FrozenInstanceError):
        task.spec.epoch = 5  # type: ignore[union-attr, misc]


def test_json_of_a_training_names_its_start(graph_of: GraphOf) -> None:
    """The start of a training is the field `from`."""
    spec = next(task.spec for task in graph_of().tasks.values() if task.kind == "train")
    assert spec.to_json()["from"] == {"epoch": 0, "object": None, "part": None, "own": False}


@pytest.mark.parametrize("value", [None, [], {}, {"kind": "train"}, {"kind": "unknown"}, {"kind": ["train"]}])
def test_json_that_is_no_spec(value: object) -> None:
    """It is refused with a ValueError."""
    with pytest.raises(ValueError):
        task_spec_from_json(value)


def test_file_with_an_unknown_field_is_refused(graph_of: GraphOf) -> None:
    """The file of a later version, with a field that this one does not have, is refused."""
    task = next(iter(graph_of().tasks.values()))
    facts = task_json(task)
    facts["spec"]["unknown"] = 1
    with pytest.raises(StoreError, match="its file describes no task; `harness run` writes it anew"):
        task_from_json(facts)
