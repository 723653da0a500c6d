"""Entries: names, options and labels."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.toy_catalogue import ENTRY, file_text, load, problems


def test_entries(tmp_path: Path) -> None:
    """Entries are names, or names with options and a label; a family's member knows its variant."""
    benchmark = load(
        tmp_path,
        file_text(
            "metrics: [joint_connectivity: {draws: 7}]\nobjective: {smoothed: {amount: 1}}",
            datasets="[cifar10, tiny_imagenet: {side: 32, label: small}]",
            architectures="[resnet20, resnet20: {width: 1, label: narrow}, timm/resnet18: {pretrained: yes}]",
            methods="[deep: , constrained: {inherit: Off}]",
        ),
    )
    assert [(named.label, named.plugin.options.model_dump()) for named in benchmark.datasets + benchmark.architectures] == [
        ("cifar10", {}),
        ("small", {"side": 32}),
        ("resnet20", {"width": 4}),
        ("narrow", {"width": 1}),
        ("timm/resnet18", {"pretrained": True}),
    ]
    assert benchmark.architectures[2].plugin.variant == "resnet18"
    assert benchmark.setups[0].methods[1].plugin.options.inherit is False
    assert benchmark.metrics[0].plugin.options.draws == 7
    assert benchmark.objective.options.amount == 1.0


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("metrics: [ensemble_acuracy]", "b.yaml:5:11: unknown metric 'ensemble_acuracy'; did you mean 'ensemble_accuracy'? known: ensemble_accuracy, joint_connectivity, mean_member_accuracy"),
        ("metrics:\n- joint_connectivity\n- joint_connectivity: {draws: 9}", "b.yaml:7:3: label 'joint_connectivity' is taken by the entry at b.yaml:6:3; give this one a 'label' of its own"),
        ("metrics: [joint_connectivity: {label: 'a|b'}]", "b.yaml:5:39: label 'a|b' cannot stand in a table; 1 to 100 printable characters without '|'"),
        ("metrics: [joint_connectivity: {draws: 0}]", "b.yaml:5:39: joint_connectivity.draws: 0 is out of range; an integer of at least 1"),
        ("members: 1\nmetrics: [ensemble_accuracy, joint_connectivity]", "b.yaml:6:30: joint_connectivity: needs at least 2 members, not 1"),
        ("objective: cross_entropi", "b.yaml:5:12: unknown objective 'cross_entropi'; did you mean 'cross_entropy'? known: cross_entropy, distillation, smoothed"),
        ("objective: [cross_entropy]", f"b.yaml:5:12: ['cross_entropy'] is {ENTRY}"),
        ("objective: {smoothed: {amount: x}}", "b.yaml:5:32: smoothed.amount: 'x' is not a number"),
        ("objective: distillation", "b.yaml:5:12: distillation needs a teacher, which only a method gives; one without a teacher"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_wrong_metric_or_objective(tmp_path: Path, more: str, line: str) -> None:
    """A wrong metric or objective is one line at the entry or its option."""
    assert problems(tmp_path, file_text(more)) == [line]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"datasets": "cifar10"}, ["b.yaml:2:11: datasets: 'cifar10' is not a list; a list of at least 1, such as ['cifar10']"]),
        ({"datasets": "[cifar]"}, ["b.yaml:2:12: unknown dataset 'cifar'; did you mean 'cifar10'? known: cifar10, tiny_imagenet"]),
        ({"datasets": "[10]"}, [f"b.yaml:2:12: 10 is {ENTRY}"]),
        ({"datasets": "[{cifar10: , side: 3}]"}, [f"b.yaml:2:12: a mapping of 2 keys is {ENTRY}"]),
        ({"datasets": "[tiny_imagenet: 3]"}, ["b.yaml:2:27: tiny_imagenet: 3 is not a mapping; options, such as {key: value}"]),
        ({"datasets": "[tiny_imagenet: {size: 3}]"}, ["b.yaml:2:28: unknown key 'size'; did you mean 'side'? known: label, side"]),
        ({"datasets": "[tiny_imagenet: {side: 3}]"}, ["b.yaml:2:34: tiny_imagenet.side: 3 is out of range; an integer of at least 8"]),
        ({"datasets": "[cifar10: {grid: {a: [1]}}]"}, ["b.yaml:2:22: unknown key 'grid'; known: label"]),
        ({"datasets": '["a\\nb"]'}, [r"b.yaml:2:12: unknown dataset 'a\nb'; known: cifar10, tiny_imagenet"]),
        ({"datasets": f"[{'x' * 3000}]"}, [f"b.yaml:2:12: unknown dataset '{'x' * 40}'… (3000 characters); known: cifar10, tiny_imagenet"]),
        ({"architectures": "[timm/resnett18]"}, ["b.yaml:3:17: unknown architecture 'timm/resnett18'; did you mean 'timm/resnet18'? known: timm/resnet18, timm/vit_base"]),
        ({"architectures": "[timm/resnet17: {pretrained: x}]"}, ["b.yaml:3:17: unknown architecture 'timm/resnet17'; did you mean 'timm/resnet18'? known: timm/resnet18, timm/vit_base"]),
        ({"architectures": "[timm/<name>]"}, ["b.yaml:3:17: 'timm/<name>' names a family; put a member's name for <name>"]),
        ({"architectures": "[resnet20, resnet20: {width: 1}]"}, ["b.yaml:3:27: label 'resnet20' is taken by the entry at b.yaml:3:17; give this one a 'label' of its own"]),
        ({"architectures": "[resnet20: {label: 'a|b'}]"}, ["b.yaml:3:35: label 'a|b' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": "[resnet20: {label: ''}]"}, ["b.yaml:3:35: label '' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": "[resnet20: {label: 20}]"}, ["b.yaml:3:35: label 20 cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": '[resnet20: {label: "a\\tb"}]'}, [r"b.yaml:3:35: label 'a\tb' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"methods": "[deep, dep]"}, ["b.yaml:4:17: unknown method 'dep'; did you mean 'deep'? known: constrained, deep, distilled, refusing"]),
        ({"methods": "[dep, dep]"}, [f"b.yaml:4:{column}: unknown method 'dep'; did you mean 'deep'? known: constrained, deep, distilled, refusing" for column in (11, 16)]),
        ({"methods": "[constrained: {fork_epoch: '3'}]"}, ["b.yaml:4:37: constrained.fork_epoch: '3' is not an integer; an integer of at least 0 or null"]),
        ({"methods": "[distilled: {fork_epoch: 1, teacher: nxt}]"}, ["b.yaml:4:47: distilled.teacher: unknown value 'nxt'; did you mean 'next'? known: next, own"]),
        ({"methods": "[distilled: {fork_epoch: 1, layers: [1, 2.5]}]"}, ["b.yaml:4:50: distilled.layers[1]: 2.5 is not an integer"]),
        ({"methods": f"[deep: {{label: {'m' * 101}}}]"}, [f"b.yaml:4:25: label '{'m' * 40}'… (101 characters) cannot stand in a table; 1 to 100 printable characters without '|'"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_wrong_entry(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """A wrong entry is one line at the entry, its option or its label."""
    assert problems(tmp_path, file_text(**lists)) == lines
