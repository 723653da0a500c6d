"""Keys at the top of a file."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.toy_catalogue import KNOWN_AT_TOP, SEEDS, file_text, load, problems


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("seed: [0]", f"b.yaml:5:1: unknown key 'seed'; did you mean 'seeds'? known: {KNOWN_AT_TOP}"),
        (f"{'k' * 1000}: 1", f"b.yaml:5:1: unknown key '{'k' * 40}'… (1000 characters); known: {KNOWN_AT_TOP}"),
        ("name: Paper", "b.yaml:5:7: name: 'Paper' is not allowed; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        (f"name: {'x' * 101}", f"b.yaml:5:7: name: '{'x' * 40}'… (101 characters) is too long; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        ("name: 3", "b.yaml:5:7: name: 3 is not a text; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        ("description: [a]", "b.yaml:5:14: description: ['a'] is not a text"),
        ("members: 0", "b.yaml:5:10: members: 0 is out of range; an integer of at least 1 and at most 10000"),
        ("members: '5'", "b.yaml:5:10: members: '5' is not an integer; an integer of at least 1 and at most 10000"),
        ("members: true", "b.yaml:5:10: members: true is not an integer; an integer of at least 1 and at most 10000"),
        ("members: 5.0", "b.yaml:5:10: members: 5.0 is not an integer; an integer of at least 1 and at most 10000"),
        ("metrics: []", "b.yaml:5:10: metrics: [] is too short; a list of at least 1, such as ['ensemble_accuracy']"),
        ("metrics: ensemble_accuracy", "b.yaml:5:10: metrics: 'ensemble_accuracy' is not a list; a list of at least 1, such as ['ensemble_accuracy']"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_wrong_key(tmp_path: Path, more: str, line: str) -> None:
    """The error is one line: where, what is wrong, what is allowed."""
    assert problems(tmp_path, file_text(more)) == [line]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"seeds": "3"}, [f"b.yaml:1:8: seeds: 3 is not a list; {SEEDS}"]),
        ({"seeds": "[]"}, [f"b.yaml:1:8: seeds: [] is too short; {SEEDS}"]),
        ({"seeds": "[0, -1]"}, ["b.yaml:1:12: seeds[1]: -1 is out of range; an integer of at least 0"]),
        ({"seeds": "[0, '1']"}, ["b.yaml:1:12: seeds[1]: '1' is not an integer; an integer of at least 0"]),
        ({"seeds": "[0, 1, 0]"}, ["b.yaml:1:8: seeds: 0 is listed 2 times; seeds are all different"]),
        ({"seeds": ""}, [f"b.yaml:1:7: seeds: null is not a list; {SEEDS}"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_wrong_seeds(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """Seeds are a list of different integers."""
    assert problems(tmp_path, file_text(**lists)) == lines


def test_missing_required_keys(tmp_path: Path) -> None:
    """Each gives one line."""
    assert problems(tmp_path, "name: x") == [
        "b.yaml:1:1: architectures is missing; a list of at least 1, such as ['resnet20']",
        "b.yaml:1:1: datasets is missing; a list of at least 1, such as ['cifar10']",
        "b.yaml:1:1: methods is missing; a list of at least 1, such as ['deep']",
        f"b.yaml:1:1: seeds is missing; {SEEDS}",
    ]


@pytest.mark.parametrize(
    ("margins", "line"),
    [
        ("{ensemble_acuracy: 1}", "b.yaml:5:15: 'ensemble_acuracy' is none of this benchmark's metrics; did you mean 'ensemble_accuracy'? known: ensemble_accuracy, joint_connectivity, mean_member_accuracy"),
        ("{ensemble_accuracy: 0}", "b.yaml:5:34: equivalence.ensemble_accuracy: 0 is out of range; a number above 0"),
        ("{ensemble_accuracy: -1}", "b.yaml:5:34: equivalence.ensemble_accuracy: -1 is out of range; a number above 0"),
        ("{ensemble_accuracy: 25%}", "b.yaml:5:34: equivalence.ensemble_accuracy: '25%' is not a number; a number above 0"),
        ("{ensemble_accuracy: true}", "b.yaml:5:34: equivalence.ensemble_accuracy: true is not a number; a number above 0"),
        ("{ensemble_accuracy: .inf}", "b.yaml:5:34: .inf is not a finite number; every number in a benchmark file is finite"),
        ("{3: 1}", "b.yaml:5:15: key 3 is not a text; keys are texts, quote it"),
    ],
)  # fmt: skip
def test_wrong_margin_of_equivalence(tmp_path: Path, margins: str, line: str) -> None:
    """Margins are positive numbers for metrics of the benchmark."""
    assert problems(tmp_path, file_text(f"equivalence: {margins}")) == [line]


def test_margin_of_an_unknown_metric_beside_an_invalid_one(tmp_path: Path) -> None:
    """Both are reported."""
    found = problems(tmp_path, file_text("equivalence: {ensemble_acuracy: 0.25, ensemble_accuracy: -1}"))
    assert len(found) == 2
    assert "'ensemble_acuracy' is none of this benchmark's metrics; did you mean 'ensemble_accuracy'?" in found[0]
    assert "equivalence.ensemble_accuracy: -1 is out of range; a number above 0" in found[1]


def test_margins_of_equivalence(tmp_path: Path) -> None:
    """They are in the benchmark and in its resolved form."""
    benchmark = load(tmp_path, file_text("equivalence: {ensemble_accuracy: 0.25, joint_connectivity: 1}"))
    assert benchmark.equivalence == {"ensemble_accuracy": 0.25, "joint_connectivity": 1.0}
    assert benchmark.resolved()["equivalence"] == {"ensemble_accuracy": 0.25, "joint_connectivity": 1.0}
