"""Warnings of degenerate ensembles: from invented logits and keys, and in the rows of whole runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
import toys
from conftest import Lab
from harness.leaderboard import board, render
from harness.plan.graph import Graph
from harness.results.ensemble_warnings import ensemble_warnings, planned_warnings
from harness.results.rows import load_rows, read_rows

ONE = "the ensemble has one member"
ALL_COPIES = "all 3 members make the same predictions: they are one network"
SOME_COPIES = "only 2 of 3 members are different networks: the others make the same predictions as one of these"
CHANCE = "at chance: no better than one constant answer"


def labels_of(examples: int, classes: int = 10) -> np.ndarray:
    """Return labels of equally frequent classes."""
    return np.arange(examples) % classes


def member(labels: np.ndarray, accuracy: float, seed: int = 0, classes: int = 10) -> np.ndarray:
    """Return logits (examples, classes) that are right on a share `accuracy` of the examples, spread evenly."""
    examples = np.arange(len(labels))
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes)).astype(np.float32)
    right = np.floor((examples + 1) * accuracy) > np.floor(examples * accuracy)
    logits[examples, np.where(right, labels, (labels + 1 + seed) % classes)] = 6
    return logits


def members(labels: np.ndarray, *accuracies: float, classes: int = 10) -> np.ndarray:
    """Return logits (members, examples, classes) of different members with these accuracies."""
    return np.stack([member(labels, accuracy, seed, classes) for seed, accuracy in enumerate(accuracies)])


def test_sound_members() -> None:
    """Three different networks above chance have no warning."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, 0.9, 0.9, 0.9), labels) == ()


def test_all_members_are_one_network() -> None:
    """Equal logits count as one network, whatever their accuracy."""
    labels = labels_of(400)
    assert ensemble_warnings(np.stack([member(labels, 0.9)] * 3), labels) == (ALL_COPIES,)


def test_some_members_are_one_network() -> None:
    """The warning counts the different networks."""
    labels = labels_of(400)
    first, second = members(labels, 0.9, 0.9)
    assert ensemble_warnings(np.stack([first, second, first]), labels) == (SOME_COPIES,)


def test_copies_that_differ_by_rounding() -> None:
    """Logits that differ by rounding are of one network, logits that differ by 0.01 are not."""
    labels = labels_of(400)
    first, second = members(labels, 0.9, 0.9)
    rounded = first * np.float32(1 + 1e-6)
    shifted = first + np.float32(0.01)
    assert ensemble_warnings(np.stack([first, rounded, first]), labels) == (ALL_COPIES,)
    assert ensemble_warnings(np.stack([first, shifted, second]), labels) == ()


def test_members_with_equal_classes_but_other_logits() -> None:
    """Members that predict the same classes with different logits are different networks."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, 1.0, 1.0, 1.0), labels) == ()


def test_one_member() -> None:
    """One network gets a warning, however good it is."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, 0.9), labels) == (ONE,)


def test_one_member_at_chance() -> None:
    """Both warnings are given."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, 0.1), labels) == (ONE, f"its one member is {CHANCE}")


@pytest.mark.parametrize(
    ("accuracies", "warning"),
    [((0.9, 0.1, 0.9), f"1 of 3 members is {CHANCE}"), ((0.1, 0.9, 0.0), f"2 of 3 members are {CHANCE}")],
)
def test_some_members_at_chance(accuracies: Sequence[float], warning: str) -> None:
    """The warning counts them."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, *accuracies), labels) == (warning,)


def test_all_members_at_chance() -> None:
    """The warning is about all members."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, 0.1, 0.1, 0.1), labels) == (f"all 3 members are {CHANCE}",)


BOTH_AT_CHANCE = (f"all 2 members are {CHANCE}",)


@pytest.mark.parametrize(("accuracy", "warnings"), [(0.14, BOTH_AT_CHANCE), (0.15, ())])
def test_accuracy_near_the_limit(accuracy: float, warnings: tuple[str, ...]) -> None:
    """With ten equal classes and 400 images the limit is three standard errors: 0.1 + 3·√(0.1·0.9/400) = 0.145."""
    labels = labels_of(400)
    assert ensemble_warnings(members(labels, accuracy, accuracy), labels) == warnings


@pytest.mark.parametrize(("accuracy", "warnings"), [(0.90, BOTH_AT_CHANCE), (0.94, ())])
def test_accuracy_near_the_limit_of_unequal_classes(accuracy: float, warnings: tuple[str, ...]) -> None:
    """With 90 % of 1000 images in one class the limit is 0.9 + 3·√(0.9·0.1/1000) = 0.928."""
    labels = np.where(np.arange(1000) % 10, 0, 1)
    assert ensemble_warnings(members(labels, accuracy, accuracy, classes=3), labels) == warnings


@pytest.mark.parametrize("examples", [1, 2, 4, 8, 10])
def test_small_test_set(examples: int) -> None:
    """With at most ten images, neither perfect members nor members at chance have a warning."""
    labels = labels_of(examples, 2)
    for accuracy in (1.0, 0.5):
        logits = np.stack([member(labels, accuracy, seed, classes=2) for seed in (0, 2)])
        assert ensemble_warnings(logits, labels) == ()


def test_good_members_on_twenty_images() -> None:
    """Members with an accuracy of 80 % have no warning, though with two classes three standard errors are 0.335."""
    labels = labels_of(20, 2)
    logits = np.stack([member(labels, 0.8, seed, classes=2) for seed in (0, 2)])
    assert ensemble_warnings(logits, labels) == ()


@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_constant_outputs_on_a_small_test_set(noise: float) -> None:
    """Networks whose outputs are constant up to rounding are at chance, whatever the number of images."""
    labels = labels_of(4, 2)
    constants = np.stack([np.tile(np.float32([1, logit]), (4, 1)) for logit in (2, 3, 4)])
    constants += np.random.default_rng(0).uniform(-noise, noise, constants.shape).astype(np.float32)
    assert ensemble_warnings(constants, labels) == (f"all 3 members are {CHANCE}",)


def test_test_set_of_one_class_or_no_image() -> None:
    """Members on a test set of one class have no warning; on an empty one their predictions are equal."""
    labels = np.zeros(400, dtype=np.int64)
    logits = members(labels, 1.0, 1.0, 1.0)
    assert ensemble_warnings(logits, labels) == ()
    assert ensemble_warnings(logits[:, :0], labels[:0]) == (ALL_COPIES,)


def test_keys_of_planned_members() -> None:
    """Before anything is measured, members with equal keys count as one network."""
    assert planned_warnings([]) == ()
    assert planned_warnings(["a"]) == (ONE,)
    assert planned_warnings(["a", "b", "c"]) == ()
    assert planned_warnings(["a", "b", "a"]) == (SOME_COPIES,)
    assert planned_warnings(["a"] * 3) == (ALL_COPIES,)


# Whole runs


class Repeated(harness.EnsembleBuilder):
    """The same checkpoint as every member."""

    name = "repeated"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        return [cell.trajectory(member=0).at(cell.epochs)] * cell.size


class Single(harness.EnsembleBuilder):
    """One member, whatever the requested size."""

    name = "single"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        return [cell.trajectory(member=0).at(cell.epochs)]


class Copying(harness.Derivation):
    """A copy of a network, with its own key."""

    name = "copying"

    def derive(self, parents: Sequence[Any], context: Any) -> Any:
        return [{name: tensor.clone() for name, tensor in parents[0].items()}], {}


class Copied(harness.EnsembleBuilder):
    """A network, a copy of it with its own key, and another network."""

    name = "copied"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        first = cell.trajectory(member=0).at(cell.epochs)
        other = cell.trajectory(member=1).at(cell.epochs)
        return [first, *cell.derive(Copying(Copying.Options()), (first,), 1), other]


GraphOf = Callable[..., Graph]
BUILDERS = [("ensemble_builder", builder) for builder in (Repeated, Single, Copied)]
CATALOGUE = toys.catalogue(("derivation", Copying), *BUILDERS)
METRICS = ["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]


def warnings_of(lab: Lab) -> dict[str, set[str]]:
    """Return the different warnings in each method's rows."""
    found: dict[str, set[str]] = {}
    for row in load_rows(lab.out):
        found.setdefault(row.method, set()).add(row.warning)
    return found


def test_degenerate_methods_on_the_board(graph_of: GraphOf, lab: Lab) -> None:
    """Copies and a single network have perfect connectivity; all their rows have a warning, and none of them is best."""
    graph = graph_of(CATALOGUE, methods=["repeated", "single", "deep"], metrics=METRICS)
    lab.run(graph, CATALOGUE)
    assert warnings_of(lab) == {"repeated": {ALL_COPIES}, "single": {ONE}, "deep": {""}}
    [table] = board({"out": read_rows(lab.out)}).tables
    best = set()
    for entries in table.entries:
        best |= {entry.method for entry in entries if entry.best}
    assert best == set()
    [connectivity] = [entry.mean for entry in table.entries[0] if entry.metric == "joint_connectivity"]
    assert connectivity == 0.0
    text = render(board({"out": read_rows(lab.out)}))
    assert f"- seed 0 of repeated: {ALL_COPIES}\n" in text
    assert f"- seed 0 of single: {ONE}\n" in text


def test_equal_weights_under_different_keys(graph_of: GraphOf, lab: Lab) -> None:
    """Equal predictions give a warning, though the keys differ."""
    lab.run(graph_of(CATALOGUE, methods=["copied", "deep"], metrics=METRICS), CATALOGUE)
    assert warnings_of(lab) == {"copied": {SOME_COPIES}, "deep": {""}}


def test_run_of_members_at_chance(graph_of: GraphOf, lab: Lab) -> None:
    """Networks that ignore their input have the warning that all members are at chance."""

    class Deaf(toys.Perceptron):
        name = "deaf"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            class Silence(nn.Module):
                def forward(self, x: torch.Tensor) -> torch.Tensor:
                    return x * 0

            return nn.Sequential(Silence(), super().build(shape, num_classes))

    catalogue = toys.catalogue(("architecture", Deaf))
    lab.run(graph_of(catalogue, architectures=["deaf"], methods=["deep"], metrics=METRICS), catalogue)
    assert warnings_of(lab) == {"deep": {f"all 3 members are {CHANCE}"}}


def test_rows_that_are_not_measured_yet(graph_of: GraphOf, lab: Lab) -> None:
    """A run that is stopped at once writes the warnings that follow from the plan."""
    graph = graph_of(CATALOGUE, methods=["repeated", "single", "deep"], metrics=METRICS)
    with pytest.raises(harness.errors.Interrupted):
        lab.run(graph, CATALOGUE, stopping=lambda: True)
    assert warnings_of(lab) == {"repeated": {ALL_COPIES}, "single": {ONE}, "deep": {""}}
