"""The joint training of M networks by the loss of their mixtures: one forward and backward pass for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.api.coupling import Coupling
from harness.networks.flat_network import StateDict
from harness.streams import Name
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import StepFunction
from harness.training.joint import CouplingClock, JointTraining
from harness.training.optimizers import Optimizer, make_optimizer
from harness.training.point import Point
from harness.training.step import StepInputs
from harness.training.trainer import Trainer


class _Held(Optimizer):
    """Takes no step: the weights of a mixture are those of its members."""

    def __init__(self) -> None:
        self.memory = {}

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """Leave the parameters and the gradient as they are."""


class Vertices:
    """The parameters of M networks, (M, parameters), and the optimizer of those that are trained, the first `size` of each."""

    def __init__(self, trainer: Trainer, points: Sequence[Point]) -> None:
        network, recipe = trainer.network, trainer.rules.recipe
        count = network.buffer_slots[0].offset if network.buffers else len(network.vector)
        rows = [network.flatten(point.weights)[:count] for point in points]
        self.parameters = torch.stack(rows).to(network.vector.device)
        self.trained = self.parameters[:, : network.trained_size]
        self.optimizer = make_optimizer(recipe, self.trained)
        self.gradients = torch.empty_like(self.trained)
        for name, memory in self.optimizer.memory.items():
            for row, point in zip(memory, points, strict=True):
                if name in point.memory:
                    row.copy_(network.flatten_trained(point.memory[name]))
        self._network = network

    def mix(self, shares: Sequence[float]) -> None:
        """Give the network the parameters Σ_i λ_i θ_i. Buffers stay."""
        mixture = self._network.vector[: self.parameters.shape[1]]
        torch.mul(self.parameters[0], shares[0], out=mixture)
        for row, share in zip(self.parameters[1:], shares[1:], strict=True):
            mixture.add_(row, alpha=share)

    def share_gradient(self, shares: Sequence[float]) -> None:
        """Write λ_i times the network's gradient to row i of `gradients`."""
        gradient = self._network.gradient
        assert gradient is not None
        for row, share in zip(self.gradients, shares, strict=True):
            torch.mul(gradient, share, out=row)

    def descend(self, rate: float, count: int) -> None:
        """Take a step of the optimizer. Parameters that no gradient has reached stay, as their optimizer memory does."""
        kept = []
        for slot in self._network.unreached:
            for tensor in (self.trained, *self.optimizer.memory.values()):
                view = tensor[:, slot.offset : slot.end]
                kept.append((view, view.clone()))
        self.optimizer.step(self.trained, self.gradients, rate, count)
        for view, value in kept:
            view.copy_(value)

    def states(self) -> list[StateDict]:
        """Return the state dict of each network. Its buffers are those of the mixture."""
        network, count = self._network, self.parameters.shape[1]
        mixture = network.vector.clone()
        states = []
        for row in self.parameters:
            network.vector[:count] = row
            states.append(network.state())
        network.set_vector(mixture)
        return states

    def memory_of(self, index: int) -> dict[str, StateDict]:
        """Return the optimizer memory of a network."""
        memory: Mapping[str, Tensor] = self.optimizer.memory
        return {name: self._network.unflatten(rows[index].contiguous()) for name, rows in memory.items()}


class MixtureTrainer(Trainer):
    """Trains M networks: computes the gradient at their mixture, whose network it has, and moves each of them.

    Set `starts`, the points of the networks, before it is loaded with the point of the mixture.
    """

    starts: Sequence[Point] = ()

    def load(self, start: Point) -> None:
        """Set the mixture's network, the networks and their optimizer to their points."""
        super().load(start)
        self.state.optimizer = _Held()
        self.vertices = Vertices(self, self.starts)

    def vertex_points(self) -> list[Point]:
        """Return copies of the networks' points. What belongs to the epoch is in the point of the mixture alone."""
        mixture = self.point()
        points = []
        for index, state in enumerate(self.vertices.states()):
            memory = self.vertices.memory_of(index)
            points.append(Point(mixture.step, state, memory, mixture.optimizer_steps))
        return points

    @property
    def next_count(self) -> int:
        """The number of the next step since the optimizer's memory was empty."""
        return self._optimizer_steps + 1

    def _weights_are_finite(self) -> bool:
        """Return whether the mixture's and all networks' values are finite."""
        return super()._weights_are_finite() and bool(self.vertices.parameters.isfinite().all())


class AtMixtures(JointTraining):
    """M networks that a coupling trains at their mixtures, in the network of a trainer. The last point is the mixture's."""

    def __init__(self, trainer: Trainer, members: int, coupling: Coupling, stream: Name) -> None:
        mixture = MixtureTrainer(trainer.network, trainer.augmenter, trainer.labels, trainer.rules, trainer.teacher)
        self.trainers = [mixture]
        self._trainer = mixture
        self._members = members
        self.coupling = coupling
        self._clock = CouplingClock(mixture, stream)

    def start_at(self, points: Sequence[Point]) -> list[Point]:
        """Return the mixture's point. If there is none, as at the start, it begins with the buffers of the first network."""
        vertices = list(points[: self._members])
        self._trainer.starts = vertices
        if len(points) > len(vertices):
            return [points[-1]]
        first = vertices[0]
        return [Point(first.step, first.weights, optimizer_steps=first.optimizer_steps)]

    def around(self, step_function: StepFunction, watch: Stopwatch) -> StepFunction:
        """Return the function that takes a step at the mixture, then moves the networks."""
        vertices, trainer = self._trainer.vertices, self._trainer

        def take(inputs: Sequence[StepInputs]) -> None:
            watch.turn("optimizer")
            step = self._clock.next_step()
            shares = self.coupling.mixture(len(vertices.parameters), step)
            vertices.mix(shares)
            step_function(inputs)
            watch.turn("optimizer")
            vertices.share_gradient(shares)
            self.coupling.add_penalty(vertices.gradients, vertices.trained, step)
            vertices.descend(step.rate, trainer.next_count)

        return take

    def points(self) -> list[Point]:
        """Return copies of the points of the networks, and of the mixture."""
        return [*self._trainer.vertex_points(), self._trainer.point()]
