"""Interface of corrections: changes of a network whose weights are a mixture of an ensemble's. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.api.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class Removable(Protocol):
    """What `torch.nn.Module.register_forward_hook` returns."""

    def remove(self) -> None:
        """Undo the registration."""
        ...


@dataclass(frozen=True)
class CorrectionContext:
    """What a correction may use.

    `network` is in evaluation mode, on the run's device; its weights are those of the last call of `set_member`, or the
    mixture's. `members` is M. `set_member(i)` gives the network the weights of a member. `batches()` yields the normalized
    training images that statistics are estimated on, float32 (batch, channels, height, width): the same ones for every member
    and mixture, without augmentation. `recompute_statistics()` sets the network's running statistics (BatchNorm's) to those of
    these images at its weights; `running_statistics` names them, and is empty if there are none.
    """

    network: nn.Module
    members: int
    set_member: Callable[[int], None]
    batches: Callable[[], Iterator[Tensor]]
    recompute_statistics: Callable[[], None]
    running_statistics: tuple[str, ...]


class Correction(Plugin):
    """Corrects a network at Σ_i λ_i θ_i, before it is evaluated. At a member nothing is corrected.

    class Recomputed(Correction):
        name = "recomputed"

        def correct(self, context, point, prepared):
            context.recompute_statistics()
            return []

    Metrics that evaluate mixtures have an option `correction`, which names one. No gradients are computed within its methods,
    unless they enable them.
    """

    def prepare(self, context: CorrectionContext) -> Any:
        """Return what `correct` needs to know about the members. Called once per ensemble."""
        return None

    @abstractmethod
    def correct(self, context: CorrectionContext, point: np.ndarray, prepared: Any) -> Sequence[Removable]:
        """Change `context.network`, whose weights are Σ_i point[i] θ_i, `point` float64 (members,) with sum 1.

        Change its parameters and buffers in place, or register hooks on its modules, and return the handles of the hooks: they
        are removed before the network gets other weights. Raise `TaskFailed` if the network cannot be corrected.
        """
