"""Checks of a network: its build, its state dict, its outputs in training and evaluation mode."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import streams
from harness.errors import PluginFailed, attribute_errors
from harness.execution.dry_pass.probe import Probe
from harness.execution.plugin_results import check_logits
from harness.execution.state_differences import listed, missing_from_state
from harness.networks.counters import effective_counter
from harness.networks.differences import differing_attributes, differing_constants
from harness.networks.evaluation import differ, predict_batch
from harness.networks.flat_network import FlatNetwork


def check_build(probe: Probe, network: FlatNetwork, again: FlatNetwork) -> None:
    """Raise `PluginFailed` if two builds with the same state of torch's generator have different weights."""
    if differ(network.vector, again.vector, 0.0):
        raise PluginFailed(f"{probe.label}: build gives other weights each time; draw them from torch's own generator")


def check_evaluation(probe: Probe, network: FlatNetwork, label: str) -> None:
    """Check the logits of a network in evaluation mode. Two passes must give equal logits."""
    environment = probe.environment
    images = environment.probe_images[: len(probe.indices)]
    logits = []
    for stream in range(2):
        network.module.eval()
        with streams.seeded(stream, environment.device), attribute_errors(label, "forward"), torch.no_grad():
            logits.append(network.module(images.clone()))
    check_logits(label, logits[0], (len(images), environment.num_classes), "in evaluation mode")
    if differ(logits[0], logits[1]):
        raise PluginFailed(f"{label}: is random in evaluation mode: two passes of the same images give different logits")


def check_whole_batch(probe: Probe, network: FlatNetwork) -> None:
    """Check the logits of a batch of test images, as large as in the evaluation of members."""
    images = next(probe.environment.test_images.batches())
    with attribute_errors(probe.label, "forward"):
        logits = predict_batch(network, images)
    check_logits(probe.label, logits, (len(images), probe.environment.num_classes), "in evaluation mode")


def check_state(probe: Probe, network: FlatNetwork, built: FlatNetwork, other: FlatNetwork) -> None:
    """Load the state dict of `network` into `other`; then both must give equal logits in training and evaluation mode.

    `built` is a network like `network`, unchanged since its build.
    """
    probe.load(other, network.state())
    logits = probe.training_logits(network)
    _check_repeatable(probe, network, built, logits)
    evaluated = probe.evaluation_logits(network)
    check_logits(
        probe.label, evaluated, (len(probe.environment.probe_images), probe.environment.num_classes), "in evaluation mode"
    )
    same_in_training = not differ(logits, probe.training_logits(other))
    same_in_evaluation = not differ(evaluated, probe.evaluation_logits(other))
    same_constants = not differing_constants(network.module, other.module)
    if not (same_in_training and same_in_evaluation and same_constants):
        raise PluginFailed(f"{probe.label}: {missing_from_state(network.module, other.module)}")


def _check_repeatable(probe: Probe, network: FlatNetwork, built: FlatNetwork, logits: Tensor) -> None:
    """Check the logits of a pass in training mode. A second pass must give equal ones."""
    repeated = probe.training_logits(network)
    check_logits(probe.label, logits, probe.logits_shape, "in training mode")
    if not differ(logits, repeated):
        return
    names = [*differing_constants(network.module, built.module), *differing_attributes(network.module, built.module)]
    changed = f" ({listed(names)} changes)" if names else ""
    raise PluginFailed(
        f"{probe.label}: is not repeatable in training mode: two passes with torch's generator in one state give "
        f"different logits{changed}; draw random numbers with torch alone, and keep what changes in persistent buffers"
    )


def check_counters(probe: Probe, network: FlatNetwork) -> None:
    """Raise `PluginFailed` if outputs depend on a number that training changes and the state dict does not contain."""
    name = effective_counter(network.module, lambda: probe.behavior(network))
    if name:
        raise PluginFailed(
            f"{probe.label}: it depends on '{name}', which training changes and the state dict does not hold; keep that in a "
            "persistent buffer"
        )


def check_tensors_unchanged(probe: Probe, network: FlatNetwork, built: FlatNetwork) -> None:
    """Raise `PluginFailed` if a training step changes the names, types or shapes of the state dict's tensors."""
    now, before = network.module.state_dict(), built.module.state_dict()
    for name in sorted({*now, *before}):
        was, has_become = _type_and_shape(before.get(name)), _type_and_shape(now.get(name))
        if was != has_become:
            raise PluginFailed(
                f"{probe.label}: '{name}' of its state dict is {was} when built and {has_become} after a training step; "
                "make it in build, and change it in place"
            )
    replaced = network.replaced_parameter
    if replaced:
        raise PluginFailed(
            f"{probe.label}: parameter '{replaced}' is replaced by another tensor in forward or train, which is not trained; "
            "change it in place"
        )


def _type_and_shape(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{tensor.dtype} {tuple(tensor.shape)}"
