"""Untrusted task files and run folders: each is refused or fails with one line, and nothing in it steers the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import toys
from conftest import Lab
from faults.forged_objects import forge
from faults.forged_specs import SETTING, SPECS
from harness.api.task import key_of
from harness.cli import cli
from harness.errors import StoreError, UserError
from harness.execution.batching import GroupRunner
from harness.execution.context import RunContext
from harness.execution.task_files import task_from_json
from harness.store import Store

KEY = key_of("one")


@pytest.mark.parametrize(
    "task",
    [
        {"kind": "attempt", "spec": {}},
        {"kind": "__init__", "spec": {}},
        {"kind": "let_go", "spec": {}},
        {"kind": "train", "spec": []},
        {"kind": ["train"], "spec": {}},
        {},
    ],
)
def test_task_of_an_unknown_kind(tmp_path: Path, task: dict[str, Any]) -> None:
    """It is refused; a kind does not name a method to call."""
    store = Store(tmp_path)
    store.write_task(KEY, {**task, "key": KEY})
    with pytest.raises(StoreError, match="its file describes no task"):
        task_from_json(store.read_task(KEY))


def test_task_with_invalid_parents_group_and_cost(tmp_path: Path) -> None:
    """It is read without them, since a worker does not need them."""
    store = Store(tmp_path)
    store.write_task(KEY, {"key": KEY, "kind": "check", "spec": SPECS["check"], "parents": 5, "group": {}, "cost": "x"})
    task = task_from_json(store.read_task(KEY))
    assert (task.kind, task.parents) == ("check", ())


@pytest.mark.parametrize("kind", ["check", "train", "derive", "predict", "measure"])
@pytest.mark.parametrize("setting", [{}, {"dataset": {"name": "blobs"}}, {"recipe": {"epochs": 1e9}}])
def test_spec_of_a_valid_form_with_invalid_values(lab: Lab, kind: str, setting: dict[str, Any]) -> None:
    """Its task fails with a one-line message."""
    context = RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", lambda event: None, lambda: False)
    forged = {**SPECS[kind], "setting": {**SETTING, **setting}}
    [outcome] = GroupRunner(context).run([task_from_json({"key": KEY, "kind": kind, "spec": forged})])
    assert outcome.status == "failed"
    assert outcome.message != ""
    assert "\n" not in outcome.message


@pytest.mark.parametrize("kind", ["train", "derive", "predict", "measure"])
@pytest.mark.parametrize("spec", [{}, {"setting": None}, {"setting": {"dataset": {}}}])
def test_spec_without_required_fields(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    """Its task file is refused."""
    store = Store(tmp_path)
    store.write_task(KEY, {"key": KEY, "kind": kind, "spec": {"kind": kind, **spec}})
    with pytest.raises(StoreError, match="its file describes no task"):
        task_from_json(store.read_task(KEY))


@pytest.mark.parametrize(
    "facts",
    [
        [],
        {},
        {"store": 3, "members": []},
        {"store": "x", "members": 3},
        {"store": "x", "members": [{}]},
        {"store": "x", "members": [3]},
        {"store": "x", "members": [{"object": "../../etc/passwd", "part": "weights"}]},
        {"store": "x\0", "members": [{"object": KEY, "part": "../../../etc/passwd"}]},
    ],
)
def test_members_of_an_invalid_run_file(tmp_path: Path, facts: Any) -> None:
    """`harness members` ends with an error that names run.json."""
    (tmp_path / "run.json").write_text(json.dumps(facts))
    done = CliRunner().invoke(cli, ["members", str(tmp_path)])
    assert isinstance(done.exception, UserError), done.output
    assert "run.json: " in str(done.exception)


def nested(levels: int) -> Any:
    """Return mappings in one another."""
    value: Any = 0
    for _ in range(levels):
        value = {"a": value}
    return value


def write_specs(store: Store, **specs: Any) -> None:
    """Write task files with specs, each with the key of its name."""
    for name, spec in specs.items():
        store.write_task(key_of(name), {"key": key_of(name), "kind": "train", "spec": spec})


@pytest.mark.parametrize("fields", [{}, {"kind": 3, "spec": {}}, {"kind": "train"}, {"kind": "train", "spec": []}])
def test_explain_and_diff_of_invalid_files(tmp_path: Path, fields: dict[str, Any]) -> None:
    """`harness explain` and `harness diff` of an invalid object or task end with an error."""
    store = Store(tmp_path)
    forge(store, KEY, fields)
    store.write_task(key_of("two"), {"key": key_of("two"), **fields})
    for words in (["explain", KEY], ["explain", key_of("two")], ["diff", KEY, key_of("two")]):
        done = CliRunner().invoke(cli, [*words, "--store", str(tmp_path)])
        assert isinstance(done.exception, UserError), done.output


def test_diff_of_specs_with_control_characters(tmp_path: Path) -> None:
    """Names and values are printed with escapes."""
    write_specs(Store(tmp_path), one={"\x1b[2J": "\x1b[2J"}, two={})
    done = CliRunner().invoke(cli, ["diff", key_of("one"), key_of("two"), "--store", str(tmp_path)])
    assert done.exit_code == 0
    first, *rest = done.output.splitlines()
    assert first.endswith(": these differ in \\x1b[2J")
    assert rest == ['\\x1b[2J: "\\u001b[2J" → absent']


def test_diff_of_deeply_nested_specs(tmp_path: Path) -> None:
    """`harness diff` prints the difference or ends with an error."""
    write_specs(Store(tmp_path), three=nested(800), four=nested(801))
    done = CliRunner().invoke(cli, ["diff", key_of("three"), key_of("four"), "--store", str(tmp_path)])
    assert done.exit_code == 0 or isinstance(done.exception, UserError), done.exception


def test_members_with_control_characters(tmp_path: Path) -> None:
    """Every field of a member in run.json is printed with escapes, in one line per member."""
    where = dict.fromkeys(("dataset", "architecture", "method", "seed", "member", "key"), "\x1b[2J\n")
    members = [{**where, "object": KEY, "part": "weights"}, {**where, "key": 3, "object": KEY, "part": "weights"}]
    (tmp_path / "run.json").write_text(json.dumps({"store": "\x1b[2J", "members": members}))
    done = CliRunner().invoke(cli, ["members", str(tmp_path)])
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert len(done.output.splitlines()) == 3
