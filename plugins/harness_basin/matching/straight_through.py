"""Straight-through matching: gradient descent through weight matching (Ainsworth et al. 2023, Git Re-Basin, algorithm 3).

Every member but the first has a latent point, which starts at the first member's weights. A member's permutations are those
that match it to its latent point. The loss is that of a mixture Σ λ_i π_i θ_i; its gradient passes through the matching
unchanged, so that the latent point of member i gets λ_i times the gradient at the mixture. The members never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness import StateDict, streams
from harness_basin.matching.coordinate_descent.descent import match
from harness_basin.matching.coordinate_descent.rematching import Rematcher
from harness_basin.matching.symmetry import Permutations, Symmetry, permute

OptimizerName = Literal["sgd", "adam"]

ADAM_DECAYS = 0.9, 0.999
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class LatentRule:
    """How latent points move: by SGD with momentum, or by Adam (Kingma and Ba 2015), with a constant learning rate."""

    optimizer: OptimizerName
    learning_rate: float
    momentum: float = 0.0


class FloatLayout:
    """The place of each floating-point tensor of a state dict in one vector. It does not depend on the dict's order."""

    def __init__(self, state: StateDict) -> None:
        self._shapes: dict[str, torch.Size] = {}
        dtype = torch.float32
        for name, tensor in sorted(state.items()):
            if tensor.is_floating_point():
                self._shapes[name] = tensor.shape
                dtype = torch.promote_types(dtype, tensor.dtype)
        self.dtype = dtype
        self.size = sum(shape.numel() for shape in self._shapes.values())

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return a vector, (size,), on the CPU. Tensors that the mapping lacks are 0."""
        vector = torch.zeros(self.size, dtype=self.dtype)
        for name, view in self.views(vector).items():
            if name in state:
                view.copy_(state[name])
        return vector

    def views(self, vector: Tensor) -> StateDict:
        """Return the tensors as views of a vector."""
        found = {}
        begin = 0
        for name, shape in self._shapes.items():
            end = begin + shape.numel()
            found[name] = vector[begin:end].view(shape)
            begin = end
        return found


class LatentOptimizer:
    """Moves points, (points, size), in place, with the formulas of torch.optim. `memory` is its state by name.

    It moves one point at a time, so that the intermediate results are those of one point.
    """

    def __init__(self, rule: LatentRule, like: Tensor) -> None:
        self.rule = rule
        names = ("momentum",) if rule.optimizer == "sgd" else ("mean", "square")
        self.memory = {name: torch.zeros_like(like) for name in names}

    def step(self, points: Tensor, index: int, gradient: Tensor, number: int) -> None:
        """Take the step of a number, counted from 1, of one of the points, by its gradient, (size,)."""
        rate = self.rule.learning_rate
        point = points[index]
        if self.rule.optimizer == "sgd":
            velocity = self.memory["momentum"][index].mul_(self.rule.momentum).add_(gradient)
            point.sub_(velocity, alpha=rate)
            return
        slow, slower = ADAM_DECAYS
        mean = self.memory["mean"][index].lerp_(gradient, 1 - slow)
        square = self.memory["square"][index].mul_(slower).addcmul_(gradient, gradient, value=1 - slower)
        size = square.sqrt().div_((1 - slower**number) ** 0.5).add_(ADAM_EPSILON)
        point.addcdiv_(mean, size, value=-rate / (1 - slow**number))


class StraightThrough:
    """The latent points of an ensemble, the permutations that match its members to them, and mixtures of the permuted members.

    It begins with each member matched to the first in float64, as `match` does: the second with the given stream, the others
    with streams of their own. `permutations` has one entry per member but the first; `steps` counts the steps taken.
    """

    def __init__(
        self, symmetry: Symmetry, members: Sequence[StateDict], rule: LatentRule, *, stream: int, max_sweeps: int
    ) -> None:
        self.symmetry = symmetry
        self.members = members
        self.layout = FloatLayout(members[0])
        self.permutations: list[Permutations] = []
        self.steps = 0
        self._stream = stream
        self._max_sweeps = max_sweeps
        self._aligned = torch.stack([self.layout.flatten(member) for member in members])
        self._latents = self._aligned[:1].repeat(len(members) - 1, 1)
        self._optimizer = LatentOptimizer(rule, self._latents)
        self._rematchers = [Rematcher(symmetry, member) for member in members[1:]]
        self._earlier_assignments = 0

    def match_to_first(self) -> None:
        """Match every member to the first."""
        for index, member in enumerate(self.members[1:]):
            key = self._stream if index == 0 else streams.key("star", self._stream, index)
            found = match(self.symmetry, self.members[0], member, stream=key, max_sweeps=self._max_sweeps, low_memory=True)
            self._earlier_assignments += found.assignments
            self.permutations.append(found.permutations)
            self._place(index)

    @property
    def assignments(self) -> int:
        """The number of linear assignment problems that were solved."""
        return self._earlier_assignments + sum(rematcher.assignments for rematcher in self._rematchers)

    def mixture(self, weights: Tensor) -> StateDict:
        """Return Σ_i λ_i π_i θ_i of floating-point tensors, for weights (members,)."""
        return self.layout.views(weights.to(self.layout.dtype) @ self._aligned)

    def unaligned_center(self) -> StateDict:
        """Return the mean of the members as they were given, of floating-point tensors."""
        center = self.layout.views(torch.zeros(self.layout.size, dtype=self.layout.dtype))
        for name, view in center.items():
            tensors = [member[name].to(self.layout.dtype) for member in self.members]
            view.copy_(torch.stack(tensors).mean(0))
        return center

    def step(self, gradient: Tensor, weights: Tensor) -> None:
        """Move the latent points by a gradient at a mixture, (size,), of weights (members,); match the members again."""
        self.steps += 1
        for index, weight in enumerate(weights[1:].to(self.layout.dtype)):
            self._optimizer.step(self._latents, index, weight * gradient, self.steps)
        for index, rematcher in enumerate(self._rematchers):
            latent = self.layout.views(self._latents[index])
            key = streams.key("rematch", self._stream, self.steps, index)
            before = self.permutations[index]
            self.permutations[index] = rematcher.match(latent, before, stream=key, max_sweeps=self._max_sweeps)
            if self.permutations[index] is not before:
                self._place(index)

    def forget_assignments(self) -> None:
        """Forget what the next assignments would start from, so that a continued descent equals an uninterrupted one."""
        for rematcher in self._rematchers:
            rematcher.forget()

    def _place(self, index: int) -> None:
        """Move a member to its current permutations."""
        moved = permute(self.symmetry, self.permutations[index], self.members[index + 1])
        for name, view in self.layout.views(self._aligned[index + 1]).items():
            view.copy_(moved[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return what the rest of the descent depends on, beside `steps` and `assignments`."""
        memory = {f"memory.{name}": tensor for name, tensor in self._optimizer.memory.items()}
        return {"latents": self._latents, **memory, **named_permutations("permutations", self.permutations)}

    def load(self, tensors: Mapping[str, Tensor], steps: int, assignments: int) -> None:
        """Continue from what `tensors` returned."""
        self._latents.copy_(tensors["latents"])
        for name, memory in self._optimizer.memory.items():
            memory.copy_(tensors[f"memory.{name}"])
        self.permutations = permutations_named("permutations", tensors, len(self.members) - 1, len(self.symmetry.groups))
        self.steps = steps
        self._earlier_assignments = assignments
        for index in range(len(self.permutations)):
            self._place(index)


def named_permutations(prefix: str, permutations: Sequence[Permutations]) -> dict[str, Tensor]:
    """Return permutations of several members as tensors by name."""
    found = {}
    for member, groups in enumerate(permutations):
        for group, permutation in enumerate(groups):
            found[f"{prefix}.{member}.{group}"] = permutation
    return found


def permutations_named(prefix: str, tensors: Mapping[str, Tensor], members: int, groups: int) -> list[Permutations]:
    """Return what `named_permutations` was given."""
    found = []
    for member in range(members):
        found.append(tuple(tensors[f"{prefix}.{member}.{group}"] for group in range(groups)))
    return found
