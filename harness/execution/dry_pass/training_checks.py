"""Checks of a training step: logits in training mode, loss, gradients, changes of parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Objective
from harness.errors import PluginFailed, attribute_errors
from harness.execution.dry_pass.probe import Probe
from harness.execution.plugin_results import check_logits
from harness.networks.evaluation import differ
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.step import StepInputs, TrainState, take_step

_STEPS = 2  # the second step may fail on leftovers of the first (a graph, a cache)
_GRADIENT_TOLERANCE = 0.01  # relative to a gradient's norm; rounding errors are smaller
_RATE_FACTOR = 1e-3  # factor of the recipe's learning rate: weights change, but do not diverge


@dataclass(frozen=True)
class LabeledObjective:
    """An objective, its name in messages, and whether it learns from a teacher."""

    objective: Objective
    label: str
    has_teacher: bool


def check_training_logits(probe: Probe, state: TrainState, objective: LabeledObjective) -> None:
    """Check the logits in training mode, in the recipe's precision, and their loss."""
    environment = probe.environment
    before = state.network.state()
    bf16 = state.recipe.precision == "bf16"
    images = environment.augmenter(probe.indices, 0)
    autocast = torch.autocast(environment.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
    with attribute_errors(probe.label, "forward"), autocast:
        logits = state.forward(images)
    check_logits(probe.label, logits, probe.logits_shape, "in training mode")
    if not logits.requires_grad:
        raise PluginFailed(f"{probe.label}: gives logits without a gradient in training mode: no parameter can be trained")
    state.network.load(before)
    _check_loss(probe, objective, logits.float())


def _check_loss(probe: Probe, objective: LabeledObjective, logits: Tensor) -> None:
    """Check the loss of logits in training mode, computed twice."""
    loss, repeated = _loss(probe, objective, logits), _loss(probe, objective, logits)
    value = float(loss.detach())
    if not bool(torch.isfinite(loss)):
        raise PluginFailed(f"{objective.label}: loss is {value} on {len(probe.indices)} training images")
    if not loss.requires_grad:
        raise PluginFailed(f"{objective.label}: loss has no gradient: it does not depend on the logits")
    if differ(loss.detach(), repeated.detach()):
        raise PluginFailed(
            f"{objective.label}: loss is not repeatable: with torch's generator in one state it is {value:.6g} and "
            f"{float(repeated.detach()):.6g}; draw random numbers with torch alone"
        )


def _loss(probe: Probe, objective: LabeledObjective, logits: Tensor) -> Tensor:
    """Return the loss of a copy of the logits, since an objective may change its arguments in place."""
    environment = probe.environment
    teacher_logits = torch.zeros_like(logits.detach()) if objective.has_teacher else None
    with streams.seeded(0, environment.device):
        return objective.objective.loss(
            logits.clone(),
            environment.labels[probe.indices],
            teacher_logits=teacher_logits,
            label_smoothing=environment.recipe.label_smoothing,
        )


def check_steps(probe: Probe, state: TrainState, objective: LabeledObjective) -> None:
    """Take training steps; check changes of `requires_grad` and buffers, and the gradient."""
    network, label = state.network, probe.label
    trained = {slot.name for slot in network.trained_slots}
    known = {slot.name for slot in network.slots}
    fixed = {name: buffer.clone() for name, buffer in network.fixed_buffers.items()}
    rate = _RATE_FACTOR * state.recipe.learning_rate
    with streams.seeded(0, probe.environment.device), attribute_errors(label, "a training step"):
        for count in range(1, _STEPS + 1):
            inputs = StepInputs(probe.indices, augmentation=0, noise=0, rate=rate, count=count)
            take_step(state, inputs, Stopwatch())
    for name, parameter in network.module.named_parameters():
        if name in known and parameter.requires_grad != (name in trained):
            raise PluginFailed(f"{label}: parameter '{name}' changes its requires_grad after build; set it there")
    for name, buffer in network.fixed_buffers.items():
        if buffer.is_floating_point() and not torch.equal(buffer, fixed[name]):
            raise PluginFailed(
                f"{label}: buffer '{name}' is {buffer.dtype} and training changes it; only float32 buffers can be interpolated"
            )
    if network.gradient is not None and not bool(torch.isfinite(network.gradient).all()):
        raise PluginFailed(f"{label}: its gradient of {objective.label} is not finite on training images")


def check_backward(probe: Probe, network: FlatNetwork) -> None:
    """Check that `torch.autograd.grad`, which training uses, gives the same gradients as `backward`."""
    of_autograd_grad = _gradient(probe, network, backward=False)
    of_backward = _gradient(probe, network, backward=True)
    for slot in network.trained_slots:
        expected = slot.view(of_backward)
        if float((slot.view(of_autograd_grad) - expected).norm()) > _GRADIENT_TOLERANCE * float(expected.norm()):
            raise PluginFailed(
                f"{probe.label}: parameter '{slot.name}' gets another gradient by torch.autograd.grad than by backward; "
                "checkpoints need use_reentrant=False"
            )


def _gradient(probe: Probe, network: FlatNetwork, *, backward: bool) -> Tensor:
    """Return a copy of the gradient of the logits' squared norm; restore the network's state."""
    assert network.gradient is not None
    before = network.state()
    with streams.seeded(0, probe.environment.device), attribute_errors(probe.label, "forward"):
        logits = network.module(probe.environment.augmenter.plain(probe.indices))
        total = logits.float().square().sum()
    if backward:
        network.gradient.zero_()
        with attribute_errors(probe.label, "backward"):
            total.backward()
    else:
        with attribute_errors(probe.label, "torch.autograd.grad"):
            network.gradient_of(total)
    gradient = network.gradient.clone()
    network.load(before)
    return gradient
