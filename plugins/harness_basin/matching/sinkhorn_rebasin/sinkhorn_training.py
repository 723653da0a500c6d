"""Sinkhorn re-basin by the loss on training images between two networks: Peña et al. 2023, section 4.2 (midpoint, random).

The network has the weights (1 − λ) θ_1 + λ S θ_2, with λ = ½ or λ ~ U(0, 1) drawn per batch. The published code computes
(1 − λ)(θ_1 + λ/(1 − λ) S θ_2), which is the same in exact arithmetic and overflows as λ → 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import DerivationContext, DerivationState, StateDict, streams
from harness_basin.matching.sinkhorn_rebasin.sinkhorn_matching import SinkhornMatching
from harness_basin.matching.sinkhorn_rebasin.sinkhorn_relaxation import Relaxation, RelaxationSettings
from harness_basin.matching.sinkhorn_rebasin.soft_maps import map_state
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, permute

Position = Literal["midpoint", "random"]

RATED_IMAGES = 2048
"""The largest number of training images on which rounded permutations are compared."""

RATED_POSITIONS: dict[Position, tuple[float, ...]] = {"midpoint": (0.5,), "random": (0.25, 0.5, 0.75)}
"""The λ at which rounded permutations are compared."""


def train_maps(
    context: DerivationContext,
    symmetry: Symmetry,
    reference: StateDict,
    other: StateDict,
    *,
    position: Position,
    epochs: int,
    batch_size: int,
    settings: RelaxationSettings,
) -> SinkhornMatching:
    """Return maps of the other network's units with a low loss between the networks, learned in some epochs.

    After every epoch the maps are rounded and the state is saved. The permutations with the lowest loss on a fixed sample of
    training images are returned. Raise `Mismatch` for weights of another network, and `TaskFailed` for a loss that is not
    finite.
    """
    between = _Between(context, symmetry, reference, other, position, batch_size)
    identity_loss = between.rate_permutations(identity(symmetry))
    if not symmetry.groups:
        return SinkhornMatching.unmoved(identity_loss, between.images)
    relaxation = Relaxation(symmetry, settings, context.stream, identity_loss)
    trace, steps, first = _resume(context, relaxation, between)
    for epoch in range(first, epochs):
        losses = []
        for share, images, labels in between.batches(epoch):
            moved = map_state(symmetry, relaxation.maps(), other)
            loss, gradients = between.gradient(moved, share, images, labels)
            steps += 1
            relaxation.step(loss, _linearized_loss(gradients, moved), steps)
            losses.append(loss)
        trace.append(sum(losses) / len(losses))
        rounded = relaxation.rounded()
        relaxation.offer(rounded, between.rate_permutations(rounded))
        _save(context, relaxation, between, trace, steps)
    with torch.no_grad():
        maps = relaxation.maps()
        soft_loss = between.rate(map_state(symmetry, maps, other))
    return SinkhornMatching(
        permutations=relaxation.best,
        maps=maps,
        loss=relaxation.best_loss,
        identity_loss=identity_loss,
        soft_loss=soft_loss,
        rounded_loss=between.rate_permutations(relaxation.rounded()),
        trace=tuple(trace),
        steps=steps,
        assignments=relaxation.assignments,
        singular=relaxation.sinkhorn.singular,
        images=between.images,
    )


def _resume(context: DerivationContext, relaxation: Relaxation, between: _Between) -> tuple[list[float], int, int]:
    """Restore the last saved state, if there is one; return the trace, the number of steps and the next epoch."""
    saved = context.resume()
    if saved is None:
        return [], 0, 0
    values = saved.values
    relaxation.restore(saved.tensors, values["best_loss"], values["assignments"])
    relaxation.sinkhorn.singular = values["singular"]
    between.images = values["images"]
    return list(values["trace"]), values["steps"], saved.epoch


def _save(context: DerivationContext, relaxation: Relaxation, between: _Between, trace: list[float], steps: int) -> None:
    values = {
        "trace": list(trace),
        "steps": steps,
        "best_loss": relaxation.best_loss,
        "assignments": relaxation.assignments,
        "singular": relaxation.sinkhorn.singular,
        "images": between.images,
    }
    context.save(DerivationState(len(trace), relaxation.state(), values))


class _Between:
    """The loss of a network with weights between two others, on training images. It counts the images that it reads."""

    def __init__(
        self,
        context: DerivationContext,
        symmetry: Symmetry,
        reference: StateDict,
        other: StateDict,
        position: Position,
        batch_size: int,
    ) -> None:
        self.context = context
        self.symmetry = symmetry
        self.reference = reference
        self.other = other
        self.position = position
        self.batch_size = batch_size
        self.network = _with_batch_statistics(context.network().to(context.device))
        own = dict(self.network.named_parameters()) | dict(self.network.named_buffers())  # tied weights have one name
        self.dtypes = {name: tensor.dtype for name, tensor in own.items() if name in reference}
        self.parameters = [name for name, parameter in self.network.named_parameters() if parameter.is_floating_point()]
        self.images = 0

    def batches(self, epoch: int) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yield λ, normalized images and labels per batch of an epoch."""
        stream = streams.key("position", self.context.stream, epoch)
        for number, (images, labels) in enumerate(self.context.batches(epoch, self.batch_size)):
            share = 0.5
            if self.position == "random":
                share = float(streams.uniform(stream, torch.tensor([number])))
            yield share, images, labels

    def gradient(self, moved: StateDict, share: float, images: Tensor, labels: Tensor) -> tuple[float, StateDict]:
        """Return the loss at (1 − λ) θ_1 + λ θ, with θ the moved weights and λ the share, and its gradient in θ, on the CPU."""
        mixture = self._mixture(moved, share)
        leaves = {name: mixture[name].requires_grad_() for name in self.parameters}
        loss = self._loss(mixture, images, labels)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients = {}
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is not None:
                gradients[name] = share * gradient.cpu()
        return float(loss.detach()), gradients

    def _mixture(self, moved: StateDict, share: float) -> StateDict:
        """Return (1 − λ) θ_1 + λ θ on the context's device in the network's types, without a history of operations.

        Integers are those of θ_1.
        """
        mixture = {}
        for name, dtype in self.dtypes.items():
            tensor = self.reference[name]
            value = tensor
            if tensor.is_floating_point():
                value = (1 - share) * tensor + share * moved[name].detach()
            mixture[name] = value.clone().to(self.context.device, dtype)
        return mixture

    def _loss(self, mixture: StateDict, images: Tensor, labels: Tensor) -> Tensor:
        self.images += len(images)
        logits = torch.func.functional_call(self.network, mixture, (images,))
        return F.cross_entropy(logits, labels.to(logits.device))

    def rate_permutations(self, permutations: Permutations) -> float:
        """Return the loss of permutations on the fixed sample."""
        return self.rate(permute(self.symmetry, permutations, self.other))

    def rate(self, moved: StateDict) -> float:
        """Return the mean loss on a fixed sample of training images, over the positions at which maps are compared."""
        train = self.context.train
        order = streams.permutation(streams.key("rated", self.context.stream), len(train.labels))[:RATED_IMAGES]
        shares = RATED_POSITIONS[self.position]
        total = 0.0
        with torch.no_grad():
            for part in order.tensor_split(-(-len(order) // self.batch_size)):
                images = self.context.normalize(train.images[part])
                for share in shares:
                    total += float(self._loss(self._mixture(moved, share), images, train.labels[part])) * len(part)
        return total / (len(order) * len(shares))


def _linearized_loss(gradients: StateDict, weights: StateDict) -> Tensor:
    """Return Σ ⟨gradient, weight⟩, whose gradient in what the weights depend on is that of the loss."""
    total = torch.zeros(())
    for name, gradient in gradients.items():
        total = total + (gradient * weights[name]).sum()
    return total


def _with_batch_statistics(network: nn.Module) -> nn.Module:
    """Return the network in evaluation mode, except for layers with running statistics, which use those of the batch."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train()
    return network
