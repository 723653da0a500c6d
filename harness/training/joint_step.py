"""The step of networks that see one batch, and whose loss depends on the predictions of all of them.

Every network makes a forward pass of its own. The loss is cut at the logits: its gradient there is computed once, and each
network continues with its own part. So no network's backward pass enters another network, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.telemetry.stopwatch import Stopwatch
from harness.training.step import ForEach, ForwardPass, StepInputs, TrainState, descend, forward_pass, next_batch

JointLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The networks' losses (M,), logits (M, batch, classes) and labels (batch,) → the loss ()."""


class JointStep:
    """Takes the step of networks that share a batch, that of the first one's inputs; the others' must name the same images."""

    def __init__(self, loss: JointLoss) -> None:
        self._loss = loss

    def __call__(self, states: Sequence[TrainState], inputs: Sequence[StepInputs], for_each: ForEach, watch: Stopwatch) -> None:
        """Train the networks on one batch. The sums get the networks' own losses, without what the joint loss adds."""
        watch.turn("data")
        images, labels = next_batch(states[0], inputs[0])
        watch.turn("forward/backward")
        passes: dict[int, ForwardPass] = {}

        def forward(index: int) -> None:
            own = images.clone()  # a network may change its input in place
            passes[index] = forward_pass(states[index], own, labels, inputs[index], cut=True)

        for_each(forward)
        gradients = self._gradients([passes[index] for index in range(len(states))], labels)

        def backward(index: int) -> None:
            watch.turn("forward/backward")
            state = states[index]
            with state.draws.backward_checked():
                state.network.gradient_of(passes[index].logits, gradients[index])
            watch.turn("optimizer")
            descend(state, passes[index], inputs[index])

        for_each(backward)

    def _gradients(self, passes: Sequence[ForwardPass], labels: Tensor) -> Sequence[Tensor]:
        """Return the gradient of the joint loss with respect to the logits of each network, (batch, classes)."""
        losses = torch.stack([one.loss for one in passes])
        logits = torch.stack([one.scored for one in passes])
        return torch.autograd.grad(self._loss(losses, logits, labels), [one.scored for one in passes])
