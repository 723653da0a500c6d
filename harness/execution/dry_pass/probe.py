"""Forward passes of a dry pass: on a few images, with a seeded generator. The network's state is restored afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness import streams
from harness.errors import PluginFailed, attribute_errors
from harness.execution.environment import TaskEnvironment
from harness.networks.evaluation import predict_batch
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.networks.state_checks import state_problem


@dataclass(frozen=True)
class Probe:
    """A setting on its device, and the number of training images to use."""

    environment: TaskEnvironment
    images: int

    @property
    def label(self) -> str:
        """The architecture's name in messages."""
        return self.environment.architecture_label

    @property
    def indices(self) -> Tensor:
        """Indices of the training images to use, int64: `images`, but no more than in the data set or in a batch."""
        environment = self.environment
        count = min(self.images, len(environment.train), environment.recipe.batch_size)
        return torch.arange(count, device=environment.device)

    @property
    def logits_shape(self) -> tuple[int, int]:
        """The shape (batch, classes) of the logits for these images."""
        return len(self.indices), self.environment.num_classes

    def fresh_network(self, name: str, *, gradient: bool = False) -> FlatNetwork:
        """Return a network whose initialization is a function of `name`.

        Raise `PluginFailed` if its state dict has tensors that cannot be stored.
        """
        module = self.environment.module(streams.key("dry pass", name))
        problem = state_problem(module)
        if problem:
            raise PluginFailed(f"{self.label}: {problem}")
        return FlatNetwork(module, self.environment.device, gradient=gradient)

    def load(self, network: FlatNetwork, state: StateDict) -> None:
        """Load a state dict; errors name the architecture."""
        with attribute_errors(self.label, "loading its own state"):
            network.load(state)

    def training_logits(self, network: FlatNetwork) -> Tensor:
        """Return the logits of a pass in training mode, and restore the network's state."""
        before = network.state()
        network.module.train()
        with streams.seeded(0, self.environment.device), attribute_errors(self.label, "forward"), torch.no_grad():
            logits: Tensor = network.module(self.environment.augmenter.plain(self.indices))
        self.load(network, before)
        return logits

    def behavior(self, network: FlatNetwork) -> list[Tensor]:
        """Return the logits in both modes and the buffers after a pass in training mode; restore the network's state."""
        before = network.state()
        network.module.train()
        with streams.seeded(0, self.environment.device), attribute_errors(self.label, "forward"), torch.enable_grad():
            logits: Tensor = network.module(self.environment.augmenter.plain(self.indices)).detach().float()
        buffers = [buffer.current.clone() for buffer in network.buffers]
        self.load(network, before)
        return [logits, self.evaluation_logits(network), *buffers]

    def evaluation_logits(self, network: FlatNetwork) -> Tensor:
        """Return the logits for the environment's probe images in evaluation mode."""
        with attribute_errors(self.label, "forward"):
            return predict_batch(network, self.environment.probe_images)
