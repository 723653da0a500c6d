"""Task specs: their JSON, which keys are computed from and task files hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from harness.api.specs import CheckSpec, TrainSpec, task_spec_from_json
from harness.api.task import key_of
from harness.errors import StoreError
from harness.execution.task_files import task_from_json, task_json
from harness.plan.graph import Graph
from harness.plan.tasks import check_task

GraphOf = Callable[..., Graph]
METHODS = ["deep", {"constrained": {"fork_epoch": 1}}, "permuted", {"distilled": {"fork_epoch": 1}}]


def test_every_task_is_read_back_from_its_file(graph_of: GraphOf) -> None:
    """The spec of each kind of task survives JSON unchanged, with the key."""
    graph = graph_of(methods=METHODS)
    assert {task.kind for task in graph.tasks.values()} == {"train", "derive", "predict", "measure"}
    for task in graph.tasks.values():
        again = task_from_json(json.loads(json.dumps(task_json(task))))
        assert (again.key, again.kind, again.spec) == (task.key, task.kind, task.spec)
        assert key_of(again.spec.to_json()) == key_of(task.spec.to_json())


def test_key_of_a_check_is_that_of_its_json(graph_of: GraphOf) -> None:
    """Equal settings and objectives give equal checks, whatever the member."""
    specs = [task.spec for task in graph_of(methods=["deep"]).tasks.values() if isinstance(task.spec, TrainSpec)]
    checks = [check_task(spec) for spec in specs]
    assert len(specs) == 3
    assert len({check.key for check in checks}) == 1
    assert checks[0].key == key_of(checks[0].spec.to_json())
    assert isinstance(checks[0].spec, CheckSpec)


def test_spec_is_frozen(graph_of: GraphOf) -> None:
    """A task cannot be changed after its key was computed."""
    task = next(iter(graph_of().tasks.values()))
    with pytest.raises(ValidationError, match="frozen"):
        task.spec.epoch = 5  # type: ignore[union-attr, misc]


def test_json_of_a_training_names_its_start(graph_of: GraphOf) -> None:
    """Task files call the start `from`, as they always did."""
    spec = next(task.spec for task in graph_of().tasks.values() if task.kind == "train")
    assert spec.to_json()["from"] == {"epoch": 0, "object": None, "part": None, "own": False}


@pytest.mark.parametrize("value", [None, [], {}, {"kind": "train"}, {"kind": "unknown"}, {"kind": ["train"]}])
def test_other_values_are_no_specs(value: object) -> None:
    """ValueError, so that a file of a stranger is refused as one."""
    with pytest.raises(ValueError):
        task_spec_from_json(value)


def test_file_with_an_unknown_field_is_refused(graph_of: GraphOf) -> None:
    """What a later version wrote is not read as if it were understood."""
    task = next(iter(graph_of().tasks.values()))
    facts = task_json(task)
    facts["spec"]["more"] = 1
    with pytest.raises(StoreError, match="its file describes no task; `harness run` writes it anew"):
        task_from_json(facts)
