"""The catalogue: registered names, families, identities."""

from __future__ import annotations

import pytest

from harness.errors import PluginError, UnknownName
from harness.registry.catalogue import KINDS, Registration, load_catalogue

CATALOGUE = load_catalogue()


def test_names_that_benchmark_files_use() -> None:
    """The methods, data sets, architectures, metrics and figures of existing benchmark files are registered."""
    assert {"deep", "swe", "constrained", "permuted", "multi_permuted", "distilled", "distilled_deep"} <= set(
        CATALOGUE.names("ensemble_builder")
    )
    assert {"cifar10", "cifar100", "tiny_imagenet", "digits"} <= set(CATALOGUE.names("dataset"))
    assert {"resnet20", "vit", "timm/<name>"} <= set(CATALOGUE.names("architecture"))
    assert {
        "ensemble_accuracy",
        "mean_member_accuracy",
        "joint_connectivity",
        "pairwise_connectivity",
        "predictive_variance",
        "jensen_shannon_divergence",
        "negative_log_likelihood",
        "expected_calibration_error",
        "brier_score",
        "loss_plane",
        "simplex_map",
    } <= set(CATALOGUE.names("metric"))
    assert "local" in CATALOGUE.names("engine")
    figures = ["pairwise_curves", "accuracy_connectivity", "fork_epochs"]
    figures += ["accuracy_cost", "pairwise_barriers", "simplex_map", "loss_plane", "reliability_diagram"]
    assert [registration.name for registration in CATALOGUE.in_order("figure")] == figures
    assert CATALOGUE.problems == ()


def test_unknown_name() -> None:
    """The error suggests the nearest name, or lists the known ones."""
    with pytest.raises(UnknownName, match=r"unknown metric 'ece2'.*known: .*expected_calibration_error"):
        CATALOGUE.get("metric", "ece2")
    with pytest.raises(UnknownName, match=r"unknown method 'depe'; did you mean 'deep'\?"):
        CATALOGUE.get("ensemble_builder", "depe")


def test_name_of_a_family() -> None:
    """`timm/resnet18` is the family `timm/<name>` with the variant `resnet18`, which is part of its identity."""
    plugin = CATALOGUE.create("architecture", "timm/resnet18")
    assert plugin.variant == "resnet18"
    assert plugin.identity["variant"] == "resnet18"
    assert CATALOGUE.from_identity("architecture", plugin.identity).variant == "resnet18"
    with pytest.raises(UnknownName, match="unknown architecture 'timm/'"):
        CATALOGUE.get("architecture", "timm/")


def test_unknown_variant() -> None:
    """The error suggests the nearest name in timm's own list."""
    with pytest.raises(UnknownName, match=r"unknown architecture 'timm/resnet81'; did you mean 'timm/resnet\d+"):
        CATALOGUE.check_variant("timm/resnet81")
    CATALOGUE.check_variant("timm/resnet18.a1_in1k")


@pytest.mark.parametrize("registration", list(CATALOGUE), ids=lambda r: f"{r.kind}:{r.name}")
def test_registered_plugin(registration: Registration) -> None:
    """It has a docstring and described options, and with default options it is created again from its identity."""
    assert registration.kind in KINDS
    assert (registration.cls.__doc__ or "").strip()
    fields = registration.cls.Options.model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    if any(field.is_required() for field in fields.values()):
        return
    name = registration.name.replace("<name>", "resnet18")
    plugin = CATALOGUE.create(registration.kind, name)
    assert CATALOGUE.from_identity(registration.kind, plugin.identity).identity == plugin.identity


def test_identity_of_another_version() -> None:
    """The error names the installed version and the version of the identity."""
    identity = {**CATALOGUE.create("metric", "brier_score").identity, "version": 99}
    with pytest.raises(PluginError, match="metric 'brier_score': version 1 is installed, the task needs 99"):
        CATALOGUE.from_identity("metric", identity)
