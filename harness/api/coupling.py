"""Interface of couplings, which tie networks that train together. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CouplingStep:
    """What a coupling may use in one step of a joint training.

    `number` counts the steps from initialization, this one included: the first one is 1. `rate` is its learning rate and
    `peak_rate` the recipe's. `stream` is the key of the step's random stream: pass it to functions of `harness.streams`.
    `matrices`, in the weights' dtype (size,), is 1 at the coordinates of weights with two or more dimensions, those of
    convolutions and linear layers, and 0 at biases, parameters of normalizations, and gaps.
    """

    number: int
    rate: float
    peak_rate: float
    stream: int
    matrices: Tensor


class Coupling(Plugin):
    """Ties the trainings of M networks of one architecture, which take their steps at the same time.

    class Together(Coupling):
        name = "together"

        def after_step(self, members, step):
            mean = torch.stack(list(members)).mean(0)
            for parameters in members:
                parameters.copy_(mean)

    Without `mixes`, every network takes a step of its own, and `after_step` changes the trained parameters. With `mixes`, one
    forward and backward pass is made at Σ_i λ_i θ_i, where `mixture` returns λ. Network i takes its step with the gradient
    λ_i ∂L/∂(Σ_i λ_i θ_i), to which `add_penalty` may add. With `shares_batch`, every network makes a forward pass on one
    batch, and network i takes its step with the gradient of `joint_loss`, a function of all predictions.

    The methods run in every step, on the device of the networks: they must not read a value of a tensor, as `float(tensor)` and
    `tensor.nonzero()` do. Random numbers must be functions of `step.stream`.
    """

    mixes: ClassVar[bool] = False
    """Whether the loss is that of one mixture of the networks, instead of each network's own."""

    shares_batch: ClassVar[bool] = False
    """Whether the networks see one batch, and the loss of each depends on the predictions of all. Not together with `mixes`."""

    def check(self, members: int) -> None:
        """Raise `ValueError` if the options do not fit M networks."""

    def simplified(self, members: int) -> Coupling | None:
        """Return a coupling of M networks with exactly the same result, or this one; None if it changes nothing.

        Trainings that nothing couples are shared with the methods that have them.
        """
        return self

    def epoch_cost(self, members: int) -> float:
        """Return the cost of an epoch of all M networks, in epochs of one of them: M, or 1 if one pass is made for all."""
        return 1.0 if self.mixes else float(members)

    def after_step(self, members: Sequence[Tensor], step: CouplingStep) -> None:
        """Change the networks' trained parameters in place: M vectors (size,). Gaps between the tensors are 0 and stay so."""

    def mixture(self, members: int, step: CouplingStep) -> Sequence[float]:
        """Return λ, M numbers of at least 0 with sum 1, if the coupling `mixes`."""
        raise NotImplementedError(f"{self.name} mixes networks, but does not define `mixture`")

    def add_penalty(self, gradients: Tensor, members: Tensor, step: CouplingStep) -> None:
        """Add the gradient of a penalty to `gradients` (M, size) in place, given the trained parameters (M, size)."""

    def joint_loss(self, losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss (), in nats, whose gradient every network follows, if the coupling `shares_batch`.

        `losses` (M,) are the networks' own objectives, `logits` (M, batch, classes) their predictions in float32, `labels`
        (batch,) the classes of the images. Without a coupling the loss is `losses.sum()`. It must be a function of the
        arguments and of the options: on a GPU it is recorded once, and repeated in every step.
        """
        raise NotImplementedError(f"{self.name} shares a batch, but does not define `joint_loss`")
