"""Every registered plugin keeps the contract of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

import toys
from harness import Recipe, Setting
from harness.registry.catalogue import Catalogue, Registration, load_catalogue
from harness.testing import (
    check_architecture,
    check_dataset,
    check_derivation,
    check_ensemble_builder,
    check_figure,
    check_metric,
    check_objective,
    derivation_context,
)
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.weight_matching import JointWeightMatching

CATALOGUE = load_catalogue()


def of(kind: str) -> list[Registration]:
    """Return the registrations of a kind; there are some."""
    found = [r for r in CATALOGUE if r.kind == kind]
    assert found
    return found


@pytest.mark.parametrize("registration", of("ensemble_builder"), ids=lambda r: r.name)
@pytest.mark.parametrize("members", [1, 3])
def test_ensemble_builders(registration: Registration, members: int) -> None:
    """Handles, a function of the cell alone; as many as asked for."""
    setting = Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=10))
    builder = CATALOGUE.create("ensemble_builder", registration.name)
    assert len(check_ensemble_builder(builder, setting, CrossEntropy(), members)) == members


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet20", (3, 16, 16)), ("vit", (3, 16, 16)), ("timm/resnet18", (3, 32, 32)), ("timm/convnext_atto", (3, 32, 32))],
)
def test_architectures(name: str, shape: tuple[int, int, int]) -> None:
    """Seeded, trainable, (batch, classes)."""
    cls = CATALOGUE.get("architecture", name)
    options = {"resnet20": {"width": 0.25}, "vit": {"width": 32, "mlp": 32, "depth": 2, "heads": 4, "dropout": 0.0}}.get(
        name, {}
    )
    check_architecture(CATALOGUE.create("architecture", name, cls.Options(**options)), shape, 7)


def test_digits(tmp_path: Path) -> None:
    """The embedded data set is what it declares."""
    check_dataset(CATALOGUE.create("dataset", "digits"), tmp_path)


@pytest.mark.parametrize("registration", of("metric"), ids=lambda r: r.name)
@pytest.mark.parametrize("members", [1, 3])
def test_metrics(registration: Registration, members: int) -> None:
    """Named, deterministic, harmless; every value has a unit or is a plain number, and a known direction."""
    values = check_metric(CATALOGUE.create("metric", registration.name), members)
    assert {value.better for value in values} <= {"higher", "lower", ""}


FIGURE_ROWS = {
    "accuracy_connectivity": ["ensemble_accuracy", "joint_connectivity"],
    "fork_epochs": ["predictive_variance"],
    "pairwise_curves": ["pairwise_curve/0-1/0.0", "pairwise_curve/0-1/0.5"],
}
"""The metrics that each figure shows."""


@pytest.mark.parametrize("registration", of("figure"), ids=lambda r: r.name)
def test_figures(registration: Registration) -> None:
    """Drawn from rows alone, twice the same; nothing where there are no rows."""
    methods = {"m(1)": {"fork_epoch": 1}, "m(2)": {"fork_epoch": 2}, "other": {}}
    check_figure(CATALOGUE.create("figure", registration.name), FIGURE_ROWS[registration.name], methods)


@pytest.mark.parametrize("registration", of("objective"), ids=lambda r: r.name)
def test_objectives(registration: Registration) -> None:
    """A finite mean with a gradient."""
    check_objective(CATALOGUE.create("objective", registration.name))


@pytest.mark.parametrize("registration", of("derivation"), ids=lambda r: r.name)
def test_derivations(registration: Registration, tmp_path: Path) -> None:
    """Whole states, deterministic, parents left alone."""
    place = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    parents = [place.network().state_dict() for _ in range(2)]
    parents[1] = {name: tensor.flip(0) + 0.1 for name, tensor in parents[1].items()}
    options = JointWeightMatching.Options(members=2) if registration.cls is JointWeightMatching else None
    check_derivation(CATALOGUE.create("derivation", registration.name, options), parents, place)


def test_every_kind_is_covered() -> None:
    """The catalogue has no kind without a contract test here, but for engines, which the runs test."""
    assert {r.kind for r in Catalogue(list(CATALOGUE))} == {
        "ensemble_builder",
        "architecture",
        "dataset",
        "metric",
        "objective",
        "derivation",
        "engine",
        "figure",
    }
