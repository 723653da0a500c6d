"""Names and what they stand for."""

from __future__ import annotations

import pytest

from harness.errors import PluginError, UnknownName
from harness.registry.catalogue import KINDS, load_catalogue

CATALOGUE = load_catalogue()


def test_settled_names_are_registered() -> None:
    """The methods, data sets, architectures and metrics that other people's files use."""
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
    } <= set(CATALOGUE.names("metric"))
    assert "local" in CATALOGUE.names("engine")
    figures = ["pairwise_curves", "accuracy_connectivity", "fork_epochs"]
    assert [registration.name for registration in CATALOGUE.in_order("figure")] == figures
    assert CATALOGUE.problems == ()


def test_unknown_name_comes_with_the_nearest() -> None:
    """The alternatives are listed."""
    with pytest.raises(UnknownName, match=r"unknown metric 'ece2'.*known: .*expected_calibration_error"):
        CATALOGUE.get("metric", "ece2")
    with pytest.raises(UnknownName, match=r"unknown method 'depe'; did you mean 'deep'\?"):
        CATALOGUE.get("ensemble_builder", "depe")


def test_family_answers_to_its_members() -> None:
    """`timm/resnet18` is timm's family with a variant; the variant is in the identity."""
    plugin = CATALOGUE.create("architecture", "timm/resnet18")
    assert plugin.variant == "resnet18"
    assert plugin.identity["variant"] == "resnet18"
    assert CATALOGUE.from_identity("architecture", plugin.identity).variant == "resnet18"
    with pytest.raises(UnknownName):
        CATALOGUE.get("architecture", "timm/")


def test_unknown_variant_comes_with_the_nearest() -> None:
    """timm's own list is asked."""
    with pytest.raises(UnknownName, match=r"unknown architecture 'timm/resnet81'; did you mean 'timm/resnet\d+"):
        CATALOGUE.check_variant("timm/resnet81")
    CATALOGUE.check_variant("timm/resnet18.a1_in1k")


@pytest.mark.parametrize("registration", list(CATALOGUE), ids=lambda r: f"{r.kind}:{r.name}")
def test_identity_goes_round(registration) -> None:
    """Every plugin with default options can be made again from its identity, and has a docstring and described options."""
    assert registration.kind in KINDS
    assert (registration.cls.__doc__ or "").strip()
    fields = registration.cls.Options.model_fields
    assert all(field.description for field in fields.values())
    if any(field.is_required() for field in fields.values()):
        return
    name = registration.name.replace("<name>", "resnet18")
    plugin = CATALOGUE.create(registration.kind, name)
    assert CATALOGUE.from_identity(registration.kind, plugin.identity).identity == plugin.identity


def test_other_versions_are_refused() -> None:
    """A task made for another version of a plugin is not done with this one."""
    identity = {**CATALOGUE.create("metric", "brier_score").identity, "version": 99}
    with pytest.raises(PluginError, match="metric 'brier_score': version 1 is installed, the task needs 99"):
        CATALOGUE.from_identity("metric", identity)
