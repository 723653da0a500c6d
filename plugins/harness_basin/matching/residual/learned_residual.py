"""Learned matching of residual networks (GLMC; Theus et al. 2025, section 4): training of the maps on the task's loss.

The weights stay. Latent matrices of every member but the first are trained by Adam to lower the loss at random points of the
simplex of members. They start at maps that move nothing, from the result of weight matching.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from harness import DerivationContext, DerivationState, StateDict, streams
from harness_basin.matching.errors import require_finite_loss
from harness_basin.matching.residual.latent_maps import Latent, latents_of, mapped
from harness_basin.matching.residual.moves import Arrays, arrays_of
from harness_basin.matching.residual.residual_groups import ResidualGroups
from harness_basin.matching.residual.residual_matching import Maps
from harness_basin.matching.symmetry import Block

SUBSET = 1000
"""The number of training images on which the results of epochs are compared."""

POINTS = 4
"""The number of points of the simplex at which they are compared."""


@dataclass(frozen=True)
class Learning:
    """How maps are trained. Points of more than two members have a Dirichlet distribution with the given concentration."""

    epochs: int
    batch_size: int
    learning_rate: float
    concentration: float


@dataclass(frozen=True)
class LearnedMatching:
    """The members' blocks after the best epoch.

    `losses` are those at fixed points, at the start and after every epoch; `unaligned_loss` is that of unaligned members.
    """

    members: tuple[Arrays, ...]
    losses: tuple[float, ...]
    unaligned_loss: float
    images: int
    steps: int


def learn_maps(
    groups: ResidualGroups,
    members: Sequence[Arrays],
    states: Sequence[StateDict],
    context: DerivationContext,
    *,
    maps: Maps,
    learning: Learning,
) -> LearnedMatching:
    """Return members whose maps were trained; the first one is not moved.

    `members` are blocks of aligned weights, and `states` the unaligned members in normal form. The start is among the
    candidates of the best result. Raise `TaskFailed` if the loss is not finite.
    """
    latents = latents_of(groups, maps)
    network = context.network().to(context.device).eval()
    unaligned = _Simplex(network, latents, [arrays_of(groups.symmetry, state) for state in states], states, context.device)
    training = _Training(_Simplex(network, latents, members, states, context.device), context, learning)
    training.run(unaligned)
    moved = [dict(members[0])]
    for number, member in enumerate(members[1:]):
        arrays = dict(member)
        for latent, matrix in zip(latents, training.best[number * len(latents) :]):
            arrays.update(latent.move(matrix).apply(arrays))
        moved.append(arrays)
    return LearnedMatching(tuple(moved), tuple(training.losses), training.unaligned_loss, training.images, training.steps)


class _Simplex:
    """The network at points of the simplex of members, as a function of the latent matrices; float32, on a device."""

    def __init__(
        self,
        network: nn.Module,
        latents: Sequence[Latent],
        members: Sequence[Mapping[Block, Tensor]],
        states: Sequence[StateDict],
        device: torch.device,
    ) -> None:
        self.network = network
        self.latents = latents
        self.size = len(members)
        self.device = device
        self.states = [_floating(state, device) for state in states]
        self.arrays = [{block: array.to(device, torch.float32) for block, array in member.items()} for member in members]

    def start(self) -> list[Tensor]:
        """Return the latent matrices of all members but the first one, which move nothing."""
        return [latent.start().to(self.device).requires_grad_() for _ in range(self.size - 1) for latent in self.latents]

    def loss(self, matrices: Sequence[Tensor], point: Sequence[float], images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy at a point of the simplex, (members,)."""
        weights = {name: torch.zeros_like(tensor) for name, tensor in self.states[0].items()}
        for share, state in zip(point, self.states, strict=True):
            for name, tensor in state.items():
                weights[name].add_(tensor, alpha=share)
        count = len(self.latents)
        changed: Arrays = {block: point[0] * array for block, array in self.arrays[0].items()}
        for number in range(1, self.size):
            own = matrices[(number - 1) * count : number * count]
            arrays = self.arrays[number] | mapped(self.latents, own, self.arrays[number])
            changed = {block: array + point[number] * arrays[block] for block, array in changed.items()}
        for block, array in changed.items():
            block.view(weights[block.parameter]).copy_(array)
        return F.cross_entropy(functional_call(self.network, weights, (images,)), labels)


def _floating(state: StateDict, device: torch.device) -> dict[str, Tensor]:
    """Return the weights on a device in float32. Integers are equal in all members: the network's own are used."""
    return {name: tensor.to(device, torch.float32) for name, tensor in state.items() if tensor.is_floating_point()}


class _Training:
    """Adam on the latent matrices, with the best result on a fixed subset of the training images."""

    def __init__(self, simplex: _Simplex, context: DerivationContext, learning: Learning) -> None:
        self.simplex = simplex
        self.context = context
        self.learning = learning
        self.matrices = simplex.start()
        self.optimizer = torch.optim.Adam(self.matrices, lr=learning.learning_rate)
        self.best = [matrix.detach().clone() for matrix in self.matrices]
        self.losses: list[float] = []
        self.unaligned_loss = math.nan
        self.images = 0
        self.steps = 0

    def run(self, unaligned: _Simplex) -> None:
        """Train for the epochs that are left, and save the state after each. Evaluate unaligned members first."""
        begin = self._resumed()
        if not self.losses:
            self.unaligned_loss = self._subset_loss(unaligned, unaligned.start())
            self._evaluate()
        for epoch in range(begin, self.learning.epochs):
            points = self._points(epoch, self.learning.concentration)
            for images, labels in self.context.batches(epoch, self.learning.batch_size):
                self.optimizer.zero_grad()
                loss = self.simplex.loss(self.matrices, next(points), images, labels)
                self._require_finite(float(loss.detach()), f"of step {self.steps + 1}")
                loss.backward()
                self.optimizer.step()
                self.steps += 1
                self.images += len(labels)
            self._evaluate()
            self.context.save(self._state(epoch + 1))

    def _points(self, purpose: str | int, concentration: float) -> Iterator[list[float]]:
        """Yield random points of the simplex: λ ~ U(0.4, 0.6) for two members, from a Dirichlet distribution for more."""
        key = streams.key("points", self.context.stream, purpose)
        generator = np.random.Generator(np.random.Philox(key=key))
        while True:
            if self.simplex.size == 2:
                share = float(generator.uniform(0.4, 0.6))
                yield [share, 1 - share]
            else:
                yield generator.dirichlet([concentration] * self.simplex.size).tolist()

    def _evaluate(self) -> None:
        """Compute the loss on the subset, and keep the latent matrices if it is the smallest one."""
        loss = self._subset_loss(self.simplex, self.matrices)
        if not self.losses or loss < min(self.losses):
            self.best = [matrix.detach().clone() for matrix in self.matrices]
        self.losses.append(loss)

    def _subset_loss(self, simplex: _Simplex, matrices: Sequence[Tensor]) -> float:
        """Return the mean loss on the subset of training images at fixed points of the simplex."""
        count = len(self.context.train.labels)
        chosen = streams.permutation(streams.key("subset", self.context.stream), count)[:SUBSET]
        images = self.context.normalize(self.context.train.images[chosen])
        labels = self.context.train.labels[chosen].to(simplex.device)
        points = self._points("evaluation", 1.0)
        total = 0.0
        with torch.no_grad():
            for _ in range(POINTS):
                total += float(simplex.loss(matrices, next(points), images, labels)) / POINTS
        self.images += POINTS * len(labels)
        return self._require_finite(total, f"on the subset after step {self.steps}")

    def _require_finite(self, loss: float, when: str) -> float:
        return require_finite_loss("orthogonal", loss, when, self.learning.learning_rate)

    def _state(self, epoch: int) -> DerivationState:
        tensors = {}
        for number, (matrix, best) in enumerate(zip(self.matrices, self.best, strict=True)):
            tensors[f"latent.{number}"] = matrix.detach()
            tensors[f"best.{number}"] = best
            for name, value in self.optimizer.state[matrix].items():
                tensors[f"adam.{number}.{name}"] = value
        values = {"losses": self.losses, "unaligned": self.unaligned_loss, "images": self.images, "steps": self.steps}
        return DerivationState(epoch, tensors, values)

    def _resumed(self) -> int:
        """Continue from a saved state, if there is one. Return the number of completed epochs."""
        state = self.context.resume()
        if state is None:
            return 0
        device = self.simplex.device
        self.losses = list(state.values["losses"])
        self.unaligned_loss = state.values["unaligned"]
        self.images = state.values["images"]
        self.steps = state.values["steps"]
        with torch.no_grad():
            for number, matrix in enumerate(self.matrices):
                matrix.copy_(state.tensors[f"latent.{number}"])
                self.best[number] = state.tensors[f"best.{number}"].to(device)
                for name in ("step", "exp_avg", "exp_avg_sq"):
                    value = state.tensors[f"adam.{number}.{name}"]
                    self.optimizer.state[matrix][name] = value.clone() if name == "step" else value.to(device)
        return state.epoch
