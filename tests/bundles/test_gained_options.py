"""Bundles that were published before plugins gained options, whose defaults do what the plugins did before."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
import yaml
from torch import nn

import harness
import toys
from bundles.toy_bundles import CONTENT, copied, differences, edit_json, refit, verify_toys
from harness.api.plugin import Plugin
from harness.benchmark import load_benchmark
from harness.bundles.run_files import board_of
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue
from harness.registry.recorded_identity import as_recorded, is_recorded_identity, present_identity
from harness.results.rows import load_rows

IN_USE = [
    ("dataset", "blobs"),
    ("architecture", "perceptron"),
    ("ensemble_builder", "deep"),
    ("ensemble_builder", "permuted"),
    ("metric", "ensemble_accuracy"),
    ("metric", "joint_connectivity"),
    ("objective", "cross_entropy"),
]
"""Plugins of the bundle; `joint_connectivity` has an identity of its own in keys."""


class Inner(harness.Options):
    """Options within an option."""

    depth: int = 2


class Slower(toys.Perceptron):
    """The toys' network with an option whose default is not what the network did before."""

    class Options(toys.Perceptron.Options):
        """Options."""

        gain: float = 0.5

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(*super().build(shape, num_classes).children(), Scaled(self.options.gain))


class Scaled(nn.Module):
    """Multiplies logits by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.factor * logits)


def gained(cls: type[Plugin]) -> type[Plugin]:
    """Return a plugin class that has gained two options, one of them with options of its own."""
    later: Any = pydantic.create_model("Options", __base__=cls.Options, later=(int, 0), inner=(Inner, Inner()))
    return type(cls.__name__, (cls,), {"Options": later, "__module__": cls.__module__})


def catalogue_with(changes: dict[tuple[str, str], type[Plugin]]) -> Catalogue:
    """Return the catalogue of toys with other classes under some names."""
    registrations = []
    for registration in toys.catalogue():
        cls = changes.get((registration.kind, registration.name), registration.cls)
        registrations.append(replace(registration, cls=cls))
    return Catalogue(registrations)


def later_catalogue(*names: tuple[str, str]) -> Catalogue:
    """Return the catalogue of toys in which some plugins, by default all that the bundle uses, have gained options."""
    before = toys.catalogue()
    return catalogue_with({(kind, name): gained(before.get(kind, name)) for kind, name in names or IN_USE})


@pytest.mark.parametrize(
    "names", [[place] for place in IN_USE[:-1]] + [IN_USE], ids=[*(name for _, name in IN_USE[:-1]), "all"]
)
def test_bundle_of_before(toy_bundle: Path, names: list[tuple[str, str]]) -> None:
    """Everything agrees to the last bit, keys of measurements included, and nothing is left out."""
    findings = verify_toys(toy_bundle, later_catalogue(*names))
    assert findings.disagreements == []
    found = {finding.subject: finding.text for finding in findings}
    assert found["plan"].startswith("costs, options and versions of 24 rows are those")
    assert found["values of ensemble_accuracy"] == "12 values agree"


def edit_rows(bundle: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change each row of the method `permuted`, and make board and digests fit."""
    path = bundle / "results.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    for row in rows:
        if row["method"] == "permuted":
            change(row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (bundle / "leaderboard.md").write_text(board_of(load_rows(bundle)), encoding="utf-8")
    refit(bundle)


def with_options(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, str]], object]:
    """Return a change of a row's column `options`."""

    def apply(row: dict[str, str]) -> None:
        options = json.loads(row["options"])
        change(options)
        row["options"] = json.dumps(options, sort_keys=True, separators=(",", ":"))

    return apply


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_options(lambda options: options.update(restarts=7)), "plan: "),
        (with_options(lambda options: options.pop("restarts")), "plan: "),
        (with_options(lambda options: options.update(later=0)), "plan: "),
        (lambda row: row.update(key="0" * 64) if row["metric"] == "joint_connectivity" else None, "its key is not that of"),
        (lambda row: row.update(value="99.5") if row["metric"] == "ensemble_accuracy" else None, "published 99.5, measured "),
    ],
    ids=["other value", "option taken out", "option put in", "key", "value"],
)
def test_forged_row_of_a_bundle_of_before(
    toy_bundle: Path, tmp_path: Path, change: Callable[[dict[str, str]], object], expected: str
) -> None:
    """It is found as in any other bundle: recorded rows must be those of the recorded benchmark."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_rows(bundle, change)
    found = differences(bundle, later_catalogue())
    assert any(expected in text and "permuted, seed 0" in text for text in found), found


CHANGED_OPTIONS: dict[str, dict[str, int]] = {
    "other value": {"restarts": 7},
    "gained with a value": {"later": 1},
    "gained with its default": {"later": 0},
    "option taken out": {},
}


@pytest.mark.parametrize("options", CHANGED_OPTIONS.values(), ids=CHANGED_OPTIONS)
def test_forged_benchmark_of_before(toy_bundle: Path, tmp_path: Path, options: dict[str, int]) -> None:
    """Options that the rows do not have are found, and so are options that were taken out of the benchmark."""
    bundle = copied(toy_bundle, tmp_path / "bundle")

    def change(facts: dict[str, Any]) -> None:
        recorded = facts["pairs"][0]["methods"][1]["options"]
        recorded.update(options)
        if not options:
            del recorded["restarts"]

    edit_json(bundle / "benchmark.json", change)
    refit(bundle)
    assert any("permuted" in text and "options is" in text for text in differences(bundle, later_catalogue()))


def test_default_that_does_something_else(toy_bundle: Path) -> None:
    """The values measured now differ from those published: the plugin's version should have been raised."""
    found = differences(toy_bundle, catalogue_with({("architecture", "perceptron"): Slower}))
    assert any("negative_log_likelihood: published " in text for text in found)


def test_other_version(toy_bundle: Path) -> None:
    """A plugin whose version was raised is refused, as before."""
    newer = type("Newer", (gained(toys.Perceptron),), {"version": 2})
    with pytest.raises(harness.UserError, match=r"architecture 'perceptron': version 2 is installed, the task needs 1"):
        verify_toys(toy_bundle, catalogue_with({("architecture", "perceptron"): newer}))


def test_members_of_before(toy_run: harness.Run, toy_bundle: Path) -> None:
    """A published member and a member of an earlier run become networks, with the defaults of the options gained."""
    later = later_catalogue()
    images = torch.linspace(-1, 1, 32).view(2, 1, 4, 4)
    member = toy_run.members(method="deep", seed=0)[0]
    expected = member.module(catalogue=toys.catalogue())(images)
    assert torch.equal(member.module(catalogue=later)(images), expected)
    assert torch.equal(harness.load_member(toy_bundle / "members" / member.key, catalogue=later)(images), expected)


def test_published_method_with_a_bundle_of_before(toy_bundle: Path, tmp_path: Path) -> None:
    """The networks of the bundle are those of the cell; with another value of the option they are not."""

    def problems(architecture: dict[str, Any]) -> set[str]:
        methods = [{"published": {"path": str(toy_bundle), "of": "deep"}}]
        content = {**CONTENT, "methods": methods, "architectures": [{"perceptron": architecture}], "objective": "cross_entropy"}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        graph = plan(load_benchmark(tmp_path / "mine.yaml", later_catalogue()).located(tmp_path))
        return {cell.problem for cell in graph.cells}

    assert problems({"later": 0}) == {""}
    [problem] = problems({"later": 1})
    assert "its architecture is perceptron, the cell's perceptron with other options or another version" in problem


def test_recorded_identities() -> None:
    """Missing options are filled in at every depth; what was recorded is never changed, and never taken for a default."""
    later = later_catalogue()
    recorded = {"name": "perceptron", "version": 1, "options": {"width": 3, "inner": {}}}
    present = present_identity(later, "architecture", recorded)
    assert present["options"] == {"width": 3, "batchnorm": False, "dropout": 0.0, "later": 0, "inner": {"depth": 2}}
    assert as_recorded(present, present, recorded) == recorded
    plugin = later.from_identity("architecture", present)
    assert is_recorded_identity(recorded, plugin)
    assert not is_recorded_identity({**recorded, "options": {"width": 4}}, plugin)
    assert not is_recorded_identity({**recorded, "options": {"width": "wide"}}, plugin)
    for changed in ({**recorded, "version": 2}, {**recorded, "options": {"gone": 1}}):
        assert present_identity(later, "architecture", changed) == changed
