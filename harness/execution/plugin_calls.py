"""Calls of plugins; errors name the plugin. Independent of tasks and store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from harness import streams
from harness.api.coupling import Coupling, CouplingStep
from harness.api.interfaces import Architecture, Objective
from harness.api.plugin import Plugin
from harness.api.specs import Identity
from harness.errors import PluginFailed, attribute_errors
from harness.registry.catalogue import WORDS, Catalogue

_TOLERANCE = 1e-6  # of the sum of a mixture's shares


class ImageFormat(Protocol):
    """What a network is built for: the shape of its images and the number of classes, as a data set declares them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""


def plugin_label(catalogue: Catalogue, kind: str, plugin: Plugin) -> str:
    """Return a plugin's name in messages: kind, name and source."""
    return f"{WORDS.get(kind, kind)} '{plugin.full_name}' of {catalogue.registration(kind, plugin.name).source}"


def make_objective(catalogue: Catalogue, identity: Identity) -> tuple[Objective, str]:
    """Return the objective with an identity, and its name in messages. Each loss that it returns is checked."""
    objective: Objective = catalogue.from_identity("objective", identity)
    label = plugin_label(catalogue, "objective", objective)
    return check_loss(objective, label), label


def check_loss(objective: Objective, label: str) -> Objective:
    """Make an objective check each loss that it returns: a floating-point scalar tensor. Errors start with `label`.

    The `loss` of the given object is replaced. A wrapper object would lack its other attributes.
    """
    plain = objective.loss

    @functools.wraps(plain)
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        with attribute_errors(label, "loss"):
            value: Any = plain(*args, **kwargs)
        return _require_scalar(value, f"{label}: loss")

    vars(objective)["loss"] = loss
    return objective


def _require_scalar(value: Any, what: str) -> Tensor:
    """Return a value that is a floating-point scalar tensor. Raise `PluginFailed` for any other."""
    if not isinstance(value, Tensor):
        raise PluginFailed(f"{what} gave {type(value).__name__}; a scalar tensor is expected")
    if value.dim():
        raise PluginFailed(f"{what} gave a tensor {tuple(value.shape)}; a scalar tensor is expected")
    if not value.is_floating_point():
        raise PluginFailed(f"{what} gave {value.dtype}; a floating-point scalar is expected")
    return value


def make_coupling(catalogue: Catalogue, identity: Identity) -> Coupling:
    """Return the coupling with an identity. Errors of its methods name it; mixtures and joint losses are checked."""
    coupling: Coupling = catalogue.from_identity("coupling", identity)
    label = plugin_label(catalogue, "coupling", coupling)
    for method in ("after_step", "add_penalty"):
        vars(coupling)[method] = _attributed(getattr(coupling, method), label)
    vars(coupling)["mixture"] = _checked_mixture(_attributed(coupling.mixture, label), label)
    vars(coupling)["joint_loss"] = _checked_joint_loss(_attributed(coupling.joint_loss, label), label)
    return coupling


def _attributed(method: Callable[..., Any], label: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any) -> Any:
        with attribute_errors(label, method.__name__):
            return method(*args)

    return call


def _checked_mixture(mixture: Callable[..., Any], label: str) -> Callable[..., list[float]]:
    def call(members: int, step: CouplingStep) -> list[float]:
        shares = [float(share) for share in mixture(members, step)]
        if len(shares) != members or min(shares) < 0 or abs(sum(shares) - 1) > _TOLERANCE:
            raise PluginFailed(f"{label}: mixture gave {shares}; {members} numbers of at least 0 with sum 1 are expected")
        return shares

    return call


def _checked_joint_loss(joint_loss: Callable[..., Any], label: str) -> Callable[..., Tensor]:
    def call(losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        loss = _require_scalar(joint_loss(losses, logits, labels), f"{label}: joint_loss")
        if not loss.requires_grad:
            raise PluginFailed(
                f"{label}: joint_loss gave a loss without a gradient; a function of the losses or logits is expected"
            )
        return loss

    return call


def make_architecture(catalogue: Catalogue, identity: Identity, data: Path) -> Architecture:
    """Return the architecture with an identity, ready to build. `data` is the data root.

    Raise `UserError` if a file that `build` reads is missing or differs from the one in the identity.
    """
    named: Architecture = catalogue.from_identity("architecture", identity)
    with attribute_errors(plugin_label(catalogue, "architecture", named), "located"):
        architecture = named.located(data)
        architecture.check_identity(identity)
    return architecture


def build_module(architecture: Architecture, label: str, images: ImageFormat, stream: int) -> torch.nn.Module:
    """Return a newly initialized network in training mode. torch's generator is seeded with `stream`."""
    with streams.seeded(stream), attribute_errors(label, "build"):
        module = architecture.build(images.shape, images.num_classes)
    if not isinstance(module, torch.nn.Module) or next(module.parameters(), None) is None:
        raise PluginFailed(f"{label}: build gave {type(module).__name__}; a module with parameters is expected")
    with attribute_errors(label, "train"):
        module.train()  # some networks freeze layers in `train`
    return module
