"""`harness explain` and `harness diff`: a sentence first, also for keys that only a run's folder explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.command_line import FILE, run_harness
from harness.cli import cli
from harness.errors import StoreError, UserError
from harness.results.rows import Row, load_rows
from harness.runs.key_sentences import difference_sentence, sentence

CHANGED = ["--set", "recipe.learning_rate=0.2", "--set", "methods=[deep]", "--out", "changed"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of one benchmark, `small` and `changed`; the second has another learning rate."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.yaml").write_text(yaml.safe_dump({**FILE, "recipe": {**FILE["recipe"], "epochs": 2}}))
    run_harness("run", "small.yaml", "--out", "small", "--workers", 1, cwd=folder)
    run_harness("run", "small.yaml", *CHANGED, "--workers", 1, cwd=folder)
    return folder


def rows(folder: Path) -> dict[tuple[str, str], Row]:
    """Return the rows of a run by method and metric."""
    return {(row.method, row.metric): row for row in load_rows(folder)}


def call(*words: str | Path) -> Any:
    """Return the result of a subcommand, called in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words])


def explained(*words: str | Path) -> tuple[str, dict[str, Any]]:
    """Return the sentence and the JSON that `harness explain` prints."""
    done = call("explain", *words)
    assert done.exit_code == 0, done.exception
    said, text = done.output.split("\n", 1)
    return said, json.loads(text)


def test_measurement(home: Path) -> None:
    """The sentence names metric, ensemble and seed."""
    row = rows(home / "small")["deep", "joint_connectivity"]
    said, facts = explained(row.key, "--run", home / "small")
    assert said == "measurement of joint_connectivity for an ensemble of 2 members, resnet20 on digits, seed 0"
    assert (facts["kind"], facts["stored"]) == ("measure", True)


def test_forked_training(home: Path) -> None:
    """The sentence says that it starts from another training."""
    members = json.loads((home / "small" / "run.json").read_text())["members"]
    forked = next(m for m in members if (m["method"], m["member"]) == ("constrained", 1))
    said, _ = explained(forked["key"], "--store", home / "runs" / "store")
    what = "training of resnet20 on digits, seed 0 member 1, cross-entropy"
    assert said == f"{what}, started from another training at epoch 1, up to epoch 2"


def test_prediction(home: Path) -> None:
    """The sentence names network and data."""
    row = rows(home / "small")["deep", "ensemble_accuracy"]
    _, facts = explained(row.key, "--run", home / "small")
    said, _ = explained(facts["spec"]["predictions"][0], "--run", home / "small")
    assert said == "predictions of resnet20 on the test images of digits"


def test_setting(home: Path) -> None:
    """With the run's folder, the key of a setting gives data set, architecture and recipe."""
    key = rows(home / "small")["deep", "ensemble_accuracy"].setting
    said, facts = explained(key[:12], "--run", home / "small")
    assert said == "setting: resnet20 on digits, 2 epochs of sgd in batches of 64"
    assert (facts["key"], facts["kind"], facts["stored"]) == (key, "setting", False)
    assert facts["spec"]["recipe"]["learning_rate"] == 0.1
    assert facts["spec"]["dataset"]["options"] == {"train_size": 192, "test_size": 100}


def test_cell(home: Path) -> None:
    """With the run's folder, the key of an ensemble gives method, seed and members."""
    key = rows(home / "small")["constrained", "ensemble_accuracy"].cell
    said, facts = explained(key, "--run", home / "small")
    assert said == "ensemble of 2 members by constrained, resnet20 on digits, seed 0"
    assert len(facts["spec"]["members"]) == 2
    assert [method["version"] for method in facts["spec"]["methods"]] == ["constrained@1"]


def test_setting_without_run_json(home: Path, tmp_path: Path) -> None:
    """The rows alone give the labels."""
    (tmp_path / "results.csv").write_bytes((home / "small" / "results.csv").read_bytes())
    row = rows(tmp_path)["deep", "ensemble_accuracy"]
    said, _ = explained(row.setting, "--run", tmp_path, "--store", tmp_path / "none")
    assert said == "setting: resnet20 on digits"
    said, _ = explained(row.key, "--run", tmp_path, "--store", tmp_path / "none")
    assert said == "measurement of ensemble_accuracy@1 for an ensemble of 2 members by deep, resnet20 on digits, seed 0"


def test_unknown_key(home: Path) -> None:
    """The message says where keys of settings and ensembles are explained, or that the given run lacks the key, too."""
    key = rows(home / "small")["deep", "ensemble_accuracy"].setting
    store = home / "runs" / "store"
    done = call("explain", key, "--store", store)
    assert isinstance(done.exception, StoreError)
    assert str(done.exception) == (
        f"{store}: nothing under '{key}'; give more or other digits, or name the run's folder with --run DIR: settings, "
        "ensembles and members of a shared object are in its files, not in the store"
    )
    done = call("explain", "ffffffff", "--run", home / "small")
    assert str(done.exception).endswith(
        f"nothing under 'ffffffff'; give more or other digits; {home / 'small'} has no such key, either"
    )
    done = call("explain", "ffffffff", "--run", home / "nowhere")
    assert isinstance(done.exception, UserError)
    assert "no results.csv" in str(done.exception)


def test_ambiguous_key(tmp_path: Path, home: Path) -> None:
    """Keys of rows count, too."""
    text = (home / "small" / "results.csv").read_text()
    row = rows(home / "small")["deep", "ensemble_accuracy"]
    (tmp_path / "results.csv").write_text(text.replace(row.setting, "abcd" + "0" * 60).replace(row.cell, "abcd" + "1" * 60))
    done = call("explain", "abcd", "--run", tmp_path, "--store", tmp_path / "none")
    assert str(done.exception) == "2 keys of the store and the runs begin with 'abcd'; give more digits"


def test_json_alone(home: Path) -> None:
    """With --json there is no sentence."""
    row = rows(home / "small")["deep", "ensemble_accuracy"]
    for key in (row.setting, row.cell, row.key):
        assert json.loads(call("explain", key, "--run", home / "small", "--json").output)["key"] == key
    facts = json.loads(call("diff", row.setting, row.cell, "--run", home / "small", "--json").output)
    assert {"path": "kind", "first": "setting", "second": "cell"} in facts["differences"]
    assert {"path": "seed", "second": 0} in facts["differences"]


def test_difference_of_two_settings(home: Path) -> None:
    """The first line says in what they differ; the second is that value."""
    first = rows(home / "small")["deep", "ensemble_accuracy"].setting
    second = rows(home / "changed")["deep", "ensemble_accuracy"].setting
    done = call("diff", first, second, "--run", home / "small", "--run", home / "changed")
    assert done.output.splitlines() == [
        "two keys of one description (setting: resnet20 on digits, 2 epochs of sgd in batches of 64): these differ in "
        "recipe.learning_rate",
        "recipe.learning_rate: 0.1 → 0.2",
    ]


def test_difference_of_two_members(home: Path) -> None:
    """The sentence describes both, and names the values."""
    members = json.loads((home / "changed" / "run.json").read_text())["members"]
    said = call("diff", members[0]["key"], members[1]["key"], "--run", home / "changed").output.splitlines()[0]
    assert said == (
        "training of resnet20 on digits, seed 0 member 0, cross-entropy, up to epoch 2, and training of resnet20 on digits, "
        "seed 0 member 1, cross-entropy, up to epoch 2: these differ in trajectory.init, trajectory.order, trajectory_key"
    )


def test_no_difference(home: Path) -> None:
    """One key twice gives one line."""
    key = rows(home / "small")["deep", "ensemble_accuracy"].key
    assert call("diff", key, key, "--run", home / "small").output == "no difference: both keys are of one thing\n"


def test_many_differences() -> None:
    """The sentence names the first four."""
    assert difference_sentence("a", "b", list("vwxyz")) == "a, and b: these differ in v, w, x, y and 1 more value"


@pytest.mark.parametrize("spec", [{}, {"kind": "train"}, {"kind": "train", "setting": 3}])
def test_specification_of_another_version(spec: dict[str, Any]) -> None:
    """The sentence says that it is not known, and the JSON follows all the same."""
    assert sentence("train", spec) == "something of kind 'train', whose specification this version of the harness does not know"
