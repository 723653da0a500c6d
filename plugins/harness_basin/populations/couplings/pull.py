"""The pull of every network towards the mean of all (PAPA; Jolicoeur-Martineau et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

import harness
from harness import Coupling, CouplingStep

if TYPE_CHECKING:
    from torch import Tensor


class Pull(Coupling):
    """After every few steps, θ_i ← a θ_i + (1 − a) θ̄, where θ̄ is the mean of all networks before the pull.

    The share 1 − a is (1 − alpha) · rate / peak rate, so that the networks part as the learning rate falls.
    """

    name, version = "pull", 1

    class Options(harness.Options):
        """Options of the pull."""

        alpha: float = Field(0.99, ge=0, le=1, description="share of a network's own weights at the peak rate; 1: no pull")
        every: int = Field(10, ge=1, description="number of steps from one pull to the next, counted from initialization")
        scaled: bool = Field(True, description="scale 1 - alpha by the learning rate over its peak; false: keep it constant")

    def simplified(self, members: int) -> Coupling | None:
        """Return None if nothing is pulled: at alpha = 1, or for one network."""
        return None if self.options.alpha == 1 or members == 1 else self

    def after_step(self, members: Sequence[Tensor], step: CouplingStep) -> None:
        """Pull the networks towards their mean, if it is time."""
        import torch

        options = self.options
        if step.number % options.every:
            return
        share = 1 - options.alpha
        if options.scaled:
            share *= min(1.0, step.rate / step.peak_rate)
        mean = torch.stack(list(members)).mean(0)
        for parameters in members:
            parameters.lerp_(mean, share)
