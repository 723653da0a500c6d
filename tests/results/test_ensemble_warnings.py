"""Which ensembles are degenerate, by hand-made logits; and what a run of such ensembles writes, whoever built them."""

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
    """Return logits (examples, classes) that are right on a share of the examples, spread evenly."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(len(labels), classes)).astype(np.float32)
    right = np.floor(np.arange(1, len(labels) + 1) * accuracy) > np.floor(np.arange(len(labels)) * accuracy)
    answers = np.where(right, labels, (labels + 1 + seed) % classes)
    logits[np.arange(len(labels)), answers] = 6
    return logits


def test_sound_members() -> None:
    """Three different networks that learned something are an ensemble."""
    labels = labels_of(400)
    assert ensemble_warnings(np.stack([member(labels, 0.9, j) for j in range(3)]), labels) == ()


def test_all_members_are_one_network() -> None:
    """Equal logits are equal networks, however good."""
    labels = labels_of(400)
    assert ensemble_warnings(np.stack([member(labels, 0.9)] * 3), labels) == (ALL_COPIES,)


def test_some_members_are_one_network() -> None:
    """A copy among different networks is counted."""
    labels = labels_of(400)
    first, second = member(labels, 0.9, 0), member(labels, 0.9, 1)
    assert ensemble_warnings(np.stack([first, second, first]), labels) == (SOME_COPIES,)


def test_copies_that_differ_by_rounding() -> None:
    """One network evaluated on another device, or with its units permuted, is the same network."""
    labels = labels_of(400)
    first = member(labels, 0.9)
    close = first * np.float32(1 + 1e-6)
    assert ensemble_warnings(np.stack([first, close, first]), labels) == (ALL_COPIES,)
    assert ensemble_warnings(np.stack([first, first + np.float32(0.01), member(labels, 0.9, 1)]), labels) == ()


def test_members_with_equal_classes_but_other_logits() -> None:
    """Members that agree on every class are not thereby equal."""
    labels = labels_of(400)
    logits = np.stack([member(labels, 1.0, j) for j in range(3)])
    assert ensemble_warnings(logits, labels) == ()


def test_one_member() -> None:
    """One network is no ensemble."""
    labels = labels_of(400)
    assert ensemble_warnings(member(labels, 0.9)[None], labels) == (ONE,)


def test_one_member_at_chance() -> None:
    """Both are said."""
    labels = labels_of(400)
    assert ensemble_warnings(member(labels, 0.1)[None], labels) == (ONE, f"its one member is {CHANCE}")


@pytest.mark.parametrize(
    ("accuracies", "told"),
    [((0.9, 0.1, 0.9), f"1 of 3 members is {CHANCE}"), ((0.1, 0.9, 0.0), f"2 of 3 members are {CHANCE}")],
)
def test_some_members_at_chance(accuracies: Sequence[float], told: str) -> None:
    """They are counted."""
    labels = labels_of(400)
    logits = np.stack([member(labels, accuracy, j) for j, accuracy in enumerate(accuracies)])
    assert ensemble_warnings(logits, labels) == (told,)


def test_all_members_at_chance() -> None:
    """All of them are said to be."""
    labels = labels_of(400)
    logits = np.stack([member(labels, 0.1, j) for j in range(3)])
    assert ensemble_warnings(logits, labels) == (f"all 3 members are {CHANCE}",)


@pytest.mark.parametrize(("accuracy", "at_chance"), [(0.14, True), (0.15, False)])
def test_the_limit_is_three_standard_errors(accuracy: float, at_chance: bool) -> None:
    """Of ten equal classes and 400 images: 0.1 + 3·√(0.1·0.9/400) = 0.145."""
    labels = labels_of(400)
    logits = np.stack([member(labels, accuracy, j) for j in range(2)])
    assert bool(ensemble_warnings(logits, labels)) == at_chance


@pytest.mark.parametrize(("accuracy", "at_chance"), [(0.90, True), (0.94, False)])
def test_the_limit_of_unequal_classes(accuracy: float, at_chance: bool) -> None:
    """Where nine images of ten are of one class, always saying so is right on 90 %: 0.9 + 3·√(0.9·0.1/1000) = 0.928."""
    labels = np.where(np.arange(1000) % 10, 0, 1)
    logits = np.stack([member(labels, accuracy, j, classes=3) for j in range(2)])
    assert bool(ensemble_warnings(logits, labels)) == at_chance


@pytest.mark.parametrize("examples", [1, 2, 4, 8, 10])
def test_small_test_sets_do_not_tell_chance_from_skill(examples: int) -> None:
    """Good members are not marked, nor those that are wrong on an image or two by bad luck."""
    labels = labels_of(examples, 2)
    for accuracy in (1.0, 0.5):
        logits = np.stack([member(labels, accuracy, j, classes=2) for j in (0, 2)])
        assert ensemble_warnings(logits, labels) == ()


def test_a_good_member_on_a_test_set_of_twenty() -> None:
    """Of two classes, three standard errors would be 0.335; a member that is right on 80 % is not at chance."""
    labels = labels_of(20, 2)
    assert ensemble_warnings(np.stack([member(labels, 0.8, j, classes=2) for j in (0, 2)]), labels) == ()


@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_constant_outputs_on_a_small_test_set(noise: float) -> None:
    """A network that (nearly) ignores its input is at chance, whatever the number of images."""
    labels = labels_of(4, 2)
    constants = np.stack([np.tile(np.float32([1, j + 2]), (4, 1)) for j in range(3)])
    constants += np.random.default_rng(0).uniform(-noise, noise, constants.shape).astype(np.float32)
    assert ensemble_warnings(constants, labels) == (f"all 3 members are {CHANCE}",)


def test_test_sets_of_one_class_and_of_nothing() -> None:
    """There is nothing to be better than."""
    labels = np.zeros(400, dtype=np.int64)
    logits = np.stack([member(labels, 1.0, j) for j in range(3)])
    assert ensemble_warnings(logits, labels) == ()
    assert ensemble_warnings(logits[:, :0], labels[:0]) == (ALL_COPIES,)


def test_what_the_members_keys_say() -> None:
    """Before anything is measured, equal keys are equal networks."""
    assert planned_warnings([]) == ()
    assert planned_warnings(["a"]) == (ONE,)
    assert planned_warnings(["a", "b", "c"]) == ()
    assert planned_warnings(["a", "b", "a"]) == (SOME_COPIES,)
    assert planned_warnings(["a"] * 3) == (ALL_COPIES,)


# Runs


class Repeated(harness.EnsembleBuilder):
    """The same checkpoint, over and over."""

    name = "repeated"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        return [cell.trajectory(member=0).at(cell.epochs)] * cell.size


class Single(harness.EnsembleBuilder):
    """One network, whatever the size asked for."""

    name = "single"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        return [cell.trajectory(member=0).at(cell.epochs)]


class Copying(harness.Derivation):
    """A copy of a network, under a key of its own."""

    name = "copying"

    def derive(self, parents: Sequence[Any], context: Any) -> Any:
        return [{name: tensor.clone() for name, tensor in parents[0].items()}], {}


class Copied(harness.EnsembleBuilder):
    """A network, a copy of it, and another network: equal weights under different keys."""

    name = "copied"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        first, other = (cell.trajectory(member=j).at(cell.epochs) for j in range(2))
        return [first, *cell.derive(Copying(Copying.Options()), (first,), 1), other]


GraphOf = Callable[..., Graph]
BUILDERS = [("ensemble_builder", builder) for builder in (Repeated, Single, Copied)]
CATALOGUE = toys.catalogue(("derivation", Copying), *BUILDERS)
METRICS = ["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]


def warnings_of(lab: Lab) -> dict[str, set[str]]:
    """Return the warnings of each method's rows."""
    found: dict[str, set[str]] = {}
    for row in load_rows(lab.out):
        found.setdefault(row.method, set()).add(row.warning)
    return found


def test_degenerate_methods_of_a_third_party_win_nothing(graph_of: GraphOf, lab: Lab) -> None:
    """Copies of one network and a single network have perfect connectivity; every row of them is marked, and deep wins."""
    graph = graph_of(CATALOGUE, methods=["repeated", "single", "deep"], metrics=METRICS)
    lab.run(graph, CATALOGUE)
    assert warnings_of(lab) == {"repeated": {ALL_COPIES}, "single": {ONE}, "deep": {""}}
    [table] = board({"out": read_rows(lab.out)}).tables
    winners = {entry.method for entries in table.entries for entry in entries if entry.best}
    assert winners == {"deep"}
    assert next(e.mean for e in table.entries[0] if e.metric == "joint_connectivity") == 0.0
    text = render(board({"out": read_rows(lab.out)}))
    assert f"- seed 0 of repeated: {ALL_COPIES}\n" in text
    assert f"- seed 0 of single: {ONE}\n" in text


def test_equal_weights_under_different_keys(graph_of: GraphOf, lab: Lab) -> None:
    """What tells is what the members predict, not what they are called."""
    lab.run(graph_of(CATALOGUE, methods=["copied", "deep"], metrics=METRICS), CATALOGUE)
    assert warnings_of(lab) == {"copied": {SOME_COPIES}, "deep": {""}}


def test_members_at_chance_in_a_run(graph_of: GraphOf, lab: Lab) -> None:
    """A network that ignores its input is at chance, and so are all its members."""

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


def test_rows_that_are_not_measured_yet_say_what_their_keys_say(graph_of: GraphOf, lab: Lab) -> None:
    """A run that is stopped at once marks what the plan tells."""
    graph = graph_of(CATALOGUE, methods=["repeated", "single", "deep"], metrics=METRICS)
    with pytest.raises(harness.errors.Interrupted):
        lab.run(graph, CATALOGUE, stopping=lambda: True)
    assert warnings_of(lab) == {"repeated": {ALL_COPIES}, "single": {ONE}, "deep": {""}}
