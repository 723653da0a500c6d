"""Training at random mixtures of networks (Wortsman et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

import harness
from harness import Coupling, CouplingStep, streams

if TYPE_CHECKING:
    from torch import Tensor


class Mixture(Coupling):
    """The loss of a batch is that of Σ_i λ_i θ_i with λ ~ Dirichlet(concentration), plus β cos²(θ_i, θ_j) of a random pair.

    The cosine is that of all weights of convolutions and linear layers as one vector, without biases and normalizations.
    """

    name, version = "random_mixture", 1
    mixes = True

    class Options(harness.Options):
        """Options of the mixture."""

        beta: float = Field(1.0, ge=0, description="weight of the penalty on the squared cosine of a random pair")
        concentration: float = Field(1.0, gt=0, description="concentration of the Dirichlet distribution; 1: uniform")

    def simplified(self, members: int) -> Coupling | None:
        """Return None for one network, whose only mixture is itself."""
        return None if members == 1 else self

    def mixture(self, members: int, step: CouplingStep) -> Sequence[float]:
        """Return the step's λ."""
        import numpy as np

        if self.options.concentration == 1:
            numbers = _uniform(members, step.stream)
            amounts = [-math.log(1 - number) for number in numbers]
        else:
            generator = np.random.Generator(np.random.Philox(step.stream))
            amounts = generator.standard_gamma(self.options.concentration, members).tolist()
        total = sum(amounts)
        if total == 0:  # all are too small to be told from 0: nearly all the weight is on one network, any of them
            chosen = streams.key("vertex", step.stream) % members
            return [float(index == chosen) for index in range(members)]
        if total == math.inf:
            return [1 / members] * members
        return [amount / total for amount in amounts]

    def add_penalty(self, gradients: Tensor, members: Tensor, step: CouplingStep) -> None:
        """Add the gradient of β cos² for a random pair: 2 β c (θ_j / (|θ_i| |θ_j|) − c θ_i / |θ_i|²) to that of θ_i."""
        import torch

        count = len(members)
        if not self.options.beta or count < 2:
            return
        left, right = _pair(count, step.stream)
        first, second = members[left] * step.matrices, members[right] * step.matrices
        lengths = (torch.linalg.vector_norm(first) * torch.linalg.vector_norm(second)).clamp(min=1e-12)
        cosine = first.dot(second) / lengths
        scale = 2 * self.options.beta * cosine
        for index, own, other in ((left, first, second), (right, second, first)):
            length = torch.linalg.vector_norm(own).square().clamp(min=1e-12)
            gradients[index].add_(scale * (other / lengths - cosine * own / length))


def _uniform(count: int, stream: int) -> list[float]:
    """Return numbers in [0, 1) from the start of a stream, on the host."""
    import torch

    numbers: list[float] = streams.uniform(stream, torch.arange(count)).tolist()
    return numbers


def _pair(count: int, stream: int) -> tuple[int, int]:
    """Return two different indices below `count`."""
    first = streams.key("pair", stream, 0) % count
    second = (first + 1 + streams.key("pair", stream, 1) % (count - 1)) % count
    return first, second
