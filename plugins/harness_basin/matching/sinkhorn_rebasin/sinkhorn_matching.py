"""Sinkhorn re-basin by the distance of weights: the losses L1 and L2 of Peña et al. 2023, section 4.1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness import StateDict
from harness_basin.matching.coordinate_descent.gram import Pair
from harness_basin.matching.sinkhorn_rebasin.sinkhorn_relaxation import Relaxation, RelaxationSettings
from harness_basin.matching.sinkhorn_rebasin.soft_maps import Maps, map_block
from harness_basin.matching.symmetry import Block, Permutations, Symmetry, identity, permute_block

Distance = Literal["l1", "l2"]


@dataclass(frozen=True)
class SinkhornMatching:
    """What Sinkhorn re-basin found.

    `permutations` are the best rounded ones, with the loss `loss`; `maps` are the last soft maps, with the loss `soft_loss`,
    which is `rounded_loss` after rounding. `trace` contains the loss of the soft maps before every step, or every epoch's mean.
    `singular` counts singular systems of gradients.
    """

    permutations: Permutations
    maps: Maps
    loss: float
    identity_loss: float
    soft_loss: float
    rounded_loss: float
    trace: tuple[float, ...]
    steps: int
    assignments: int
    singular: int
    images: int = 0

    @classmethod
    def unmoved(cls, loss: float, images: int = 0) -> SinkhornMatching:
        """Return the result for a network whose units cannot be moved."""
        return cls((), (), loss, loss, loss, loss, (), 0, 0, 0, images)


def match_by_sinkhorn(
    symmetry: Symmetry,
    reference: StateDict,
    other: StateDict,
    *,
    distance: Distance,
    steps: int,
    settings: RelaxationSettings,
    stream: int,
) -> SinkhornMatching:
    """Return maps of the other network's units that bring its weights close to the reference's, learned in some steps.

    The loss is the mean absolute or squared difference of the weights that permutations move. After every step the maps are
    rounded, and the permutations with the lowest loss are returned. Raise `Mismatch` for weights of another network, and
    `TaskFailed` for weights that are not finite or steps that diverge.
    """
    loss = _Distance(
        Pair(symmetry, symmetry.checked(reference, "reference"), symmetry.checked(other, "other"), torch.float64), distance
    )
    identity_loss = loss.of_permutations(identity(symmetry))
    if not symmetry.groups:
        return SinkhornMatching.unmoved(identity_loss)
    relaxation = Relaxation(symmetry, settings, stream, identity_loss)
    trace = []
    for number in range(1, steps + 1):
        value = loss.of_maps(relaxation.maps())
        trace.append(float(value.detach()))
        relaxation.step(trace[-1], value, number)
        rounded = relaxation.rounded()
        rounded_loss = loss.of_permutations(rounded)
        relaxation.offer(rounded, rounded_loss)
    with torch.no_grad():
        maps = relaxation.maps()
        soft_loss = float(loss.of_maps(maps))
    return SinkhornMatching(
        permutations=relaxation.best,
        maps=maps,
        loss=relaxation.best_loss,
        identity_loss=identity_loss,
        soft_loss=soft_loss,
        rounded_loss=rounded_loss,
        trace=tuple(trace),
        steps=steps,
        assignments=relaxation.assignments,
        singular=relaxation.sinkhorn.singular,
    )


class _Distance:
    """The mean difference of two networks' weights after the second's units are mapped."""

    def __init__(self, pair: Pair, distance: Distance) -> None:
        self.pair = pair
        self.distance = distance
        self.blocks = [block for block in pair.symmetry.blocks if block.counts]
        self.count = sum(block.view(pair.reference[block.parameter]).numel() for block in self.blocks)

    def of_maps(self, maps: Maps) -> Tensor:
        """Return the loss of soft maps, differentiable, float64."""
        return self._mean(lambda block, view: map_block(self.pair.symmetry, block, view, maps))

    def of_permutations(self, permutations: Permutations) -> float:
        """Return the loss of permutations."""
        return float(self._mean(lambda block, view: permute_block(self.pair.symmetry, block, view, permutations)))

    def _mean(self, move: Callable[[Block, Tensor], Tensor]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for block in self.blocks:
            a, b = self.pair.views(block)
            difference = a - move(block, b)
            if self.distance == "l1":
                total = total + difference.abs().sum(dtype=torch.float64)
            else:
                total = total + difference.square().sum(dtype=torch.float64)
        return total / max(1, self.count)
