"""Every registered plugin satisfies the contract of its kind, as `harness.testing` checks it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import toys
from bundles.toy_bundles import publish_toys, run_toys
from conftest import RECIPE
from harness import Alignment, EnsembleBuilder, Recipe, Setting
from harness.bundles.digests import digest_of
from harness.registry.catalogue import Catalogue, Registration, load_catalogue
from harness.testing import (
    check_architecture,
    check_correction,
    check_coupling,
    check_dataset,
    check_derivation,
    check_ensemble_builder,
    check_evaluation_set,
    check_figure,
    check_metric,
    check_objective,
    check_observer,
    derivation_context,
)
from harness_basin.alignments import OrthogonalMatching
from harness_basin.averages.averaging import GreedySoup
from harness_basin.averages.fused import FusedEnsemble
from harness_basin.averages.soup import Soup
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.published import PublishedEnsemble, PublishedWeights
from harness_basin.samplers.swa import StochasticWeightAverage
from harness_basin.samplers.weight_averaging import GaussianSamples, MeanOfRun
from harness_vision.digits import Digits
from harness_vision.vit import ViT

CATALOGUE = load_catalogue()


def registered(kind: str) -> list[Registration]:
    """Return the registrations of a kind; assert that there are some."""
    found = [r for r in CATALOGUE if r.kind == kind]
    assert found
    return found


def builder_of(registration: Registration, folder: Path) -> EnsembleBuilder:
    """Return a builder with its default options; one that needs a bundle gets a bundle of toys."""
    if registration.cls is not PublishedEnsemble:
        return CATALOGUE.create("ensemble_builder", registration.name)
    content = {"members": 3, "methods": ["deep"], "metrics": ["ensemble_accuracy"]}
    publish_toys(run_toys(folder, recipe={**RECIPE, "epochs": 1}, **content), folder / "bundle")
    return PublishedEnsemble(PublishedEnsemble.Options(path="bundle")).located(folder)


@pytest.mark.parametrize("registration", registered("ensemble_builder"), ids=lambda r: r.name)
@pytest.mark.parametrize("members", [1, 3])
def test_ensemble_builders(registration: Registration, members: int, tmp_path: Path) -> None:
    """A builder returns the requested number of handles, one for an average, and the same ones for equal cells."""
    setting = Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=10))
    builder = builder_of(registration, tmp_path)
    if members == 1 and registration.name in ("papa", "wash", "repelled", "codistilled"):
        with pytest.raises(ValueError, match=r"members is 1; .* ties at least 2"):
            check_ensemble_builder(builder, setting, CrossEntropy(), members)
        return
    if members == 1 and registration.name in ("aligned", "fused"):
        with pytest.raises(ValueError, match=r"^by: members is 1; an alignment brings at least 2 close to one another$"):
            check_ensemble_builder(builder, setting, CrossEntropy(), members)
        return
    expected = 1 if registration.cls in (Soup, FusedEnsemble, StochasticWeightAverage) else members
    assert len(check_ensemble_builder(builder, setting, CrossEntropy(), members)) == expected


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("resnet20", {"width": 0.25}, (3, 16, 16)),
        ("vit", {"width": 32, "mlp": 32, "depth": 2, "heads": 4, "dropout": 0.0}, (3, 16, 16)),
        ("timm/resnet18", {}, (3, 32, 32)),
        ("timm/convnext_atto", {}, (3, 32, 32)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_architectures(name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """A network is a function of its seed, can be trained, and returns logits (batch, classes)."""
    cls = CATALOGUE.get("architecture", name)
    check_architecture(CATALOGUE.create("architecture", name, cls.Options(**options)), shape, 7)


def test_digits(tmp_path: Path) -> None:
    """The embedded data set loads what it declares."""
    check_dataset(CATALOGUE.create("dataset", "digits"), tmp_path)


@pytest.mark.parametrize("registration", registered("metric"), ids=lambda r: r.name)
@pytest.mark.parametrize("members", [1, 3])
def test_metrics(registration: Registration, members: int) -> None:
    """A metric is deterministic, names its values, and changes nothing that it is given; each value has a known direction."""
    values = check_metric(CATALOGUE.create("metric", registration.name), members)
    assert {value.better for value in values} <= {"higher", "lower", ""}


@pytest.mark.parametrize("registration", registered("metric"), ids=lambda r: r.name)
def test_metric_declares_how_tables_show_it(registration: Registration) -> None:
    """Its class has a title, a symbol and a direction of its own; one that is neither better nor worse says so."""
    declared = vars(registration.cls)
    assert {"title", "symbol", "better"} <= set(declared)
    assert declared["title"]
    assert declared["symbol"]
    assert declared["better"] in ("higher", "lower", "")


def test_titles_and_symbols_of_metrics_are_different() -> None:
    """Two columns of a table never have one head."""
    classes = [registration.cls for registration in registered("metric")]
    for attribute in ("title", "symbol"):
        shown = [getattr(cls, attribute) for cls in classes]
        assert len(set(shown)) == len(shown)


FIGURE_ROWS = {
    "accuracy_connectivity": ["ensemble_accuracy", "joint_connectivity"],
    "accuracy_cost": ["ensemble_accuracy", "training_epochs"],
    "fork_epochs": ["predictive_variance"],
    "loss_plane": [
        *["loss_plane_x/0", "loss_plane_x/1", "loss_plane_x/2", "loss_plane_y/0", "loss_plane_y/1", "loss_plane_y/2"],
        *["loss_plane_accuracy/0/0", "loss_plane_accuracy/1/0", "loss_plane_accuracy/0/1", "loss_plane_accuracy/1/1"],
    ],
    "pairwise_barriers": ["pairwise_curve/0-1/0", "pairwise_curve/0-1/0.5", "pairwise_curve/0-1/1"],
    "pairwise_curves": ["pairwise_curve/0-1/0.0", "pairwise_curve/0-1/0.5"],
    "reliability_diagram": ["calibration_accuracy/3", "calibration_confidence/3", "calibration_count/3"],
    "simplex_map": ["simplex_map_q/1/0/0", "simplex_map_q/0/1/0", "simplex_map_q/0/0/1", "simplex_map_q/0.4/0.3/0.3"],
}
"""By figure: the metrics that it shows."""


@pytest.mark.parametrize("registration", registered("figure"), ids=lambda r: r.name)
def test_figures(registration: Registration) -> None:
    """A figure is a function of the rows alone, and nothing is drawn without rows."""
    methods = {"m(1)": {"fork_epoch": 1}, "m(2)": {"fork_epoch": 2}, "other": {}}
    check_figure(CATALOGUE.create("figure", registration.name), FIGURE_ROWS[registration.name], methods)


@pytest.mark.parametrize("registration", registered("objective"), ids=lambda r: r.name)
def test_objectives(registration: Registration) -> None:
    """An objective returns a finite mean with a gradient."""
    check_objective(CATALOGUE.create("objective", registration.name))


@pytest.mark.parametrize("registration", registered("derivation"), ids=lambda r: r.name)
def test_derivations(registration: Registration, tmp_path: Path) -> None:
    """A derivation returns complete states, is deterministic, and does not change its parents."""
    context = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    parents = [context.network().state_dict() for _ in range(2)]
    parents[1] = {name: tensor.flip(0) + 0.1 for name, tensor in parents[1].items()}
    options: Any = None
    if issubclass(registration.cls, Alignment) and registration.cls.joint:
        options = registration.cls.Options(members=2)
    if registration.cls is GreedySoup:
        options = GreedySoup.Options(split="test")
    if registration.cls is OrthogonalMatching:  # for transformers alone
        sizes = {"patch": 2, "width": 8, "mlp": 12, "depth": 1, "heads": 2, "dropout": 0.0}
        context = derivation_context(CATALOGUE.create("architecture", "vit", ViT.Options(**sizes)), toys.Blobs(), tmp_path)
        parents = [{name: tensor + 0.1 for name, tensor in context.network().state_dict().items()} for _ in range(2)]
        options = OrthogonalMatching.Options(members=2)
    if registration.cls in (MeanOfRun, GaussianSamples):
        parents += [{name: tensor.double() for name, tensor in parent.items()} for parent in parents]
    if registration.cls is PublishedWeights:
        file = tmp_path / "model.safetensors"
        safetensors.torch.save_file(parents[0], file)
        digest = digest_of(file)
        options = PublishedWeights.Options(weights_sha256=digest.sha256, weights_bytes=digest.bytes)
        context = dataclasses.replace(context, sources=(file,))
    check_derivation(CATALOGUE.create("derivation", registration.name, options), parents, context)


def test_observers(tmp_path: Path) -> None:
    """An observer without a library of its own follows every kind of run; tests/loggers checks the others."""
    pytest.importorskip("tensorboard")
    assert {registration.name for registration in registered("observer")} == {"tensorboard", "trackio", "wandb"}
    check_observer(CATALOGUE.create("observer", "tensorboard"), tmp_path)


@pytest.mark.parametrize("registration", registered("correction"), ids=lambda r: r.name)
def test_corrections(registration: Registration) -> None:
    """A correction is deterministic, and leaves nothing behind at a member."""
    check_correction(CATALOGUE.create("correction", registration.name))


@pytest.mark.parametrize("registration", registered("coupling"), ids=lambda r: r.name)
@pytest.mark.parametrize("members", [2, 5])
def test_couplings(registration: Registration, members: int) -> None:
    """A coupling is a function of the weights and the step, and reads no value back."""
    check_coupling(CATALOGUE.create("coupling", registration.name), members)


@pytest.mark.parametrize("name", ["c_like", "photo_patches"])
def test_evaluation_sets(name: str, tmp_path: Path) -> None:
    """An evaluation set loads splits of the data set's form; tests/vision checks those that need files."""
    evaluation_sets = {registration.name for registration in registered("evaluation_set")}
    assert evaluation_sets == {"c_like", "photo_patches", "cifar10_c", "cifar100_c", "svhn"}
    digits = CATALOGUE.create("dataset", "digits", Digits.Options(test_size=20))
    check_evaluation_set(CATALOGUE.create("evaluation_set", name), digits, tmp_path)


def test_every_kind_is_covered() -> None:
    """Each kind in the catalogue has a contract test in this file, except engines, which the tests of runs cover."""
    assert {r.kind for r in Catalogue(list(CATALOGUE))} == {
        "ensemble_builder",
        "architecture",
        "dataset",
        "metric",
        "objective",
        "derivation",
        "engine",
        "figure",
        "observer",
        "correction",
        "coupling",
        "evaluation_set",
    }
