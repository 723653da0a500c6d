"""The shuffle of a random share of the coordinates among networks (WASH; Fournier et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

import harness
from harness import Coupling, CouplingStep, streams

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Shuffle(Coupling):
    """After every step, the networks exchange their values at a random share p of the coordinates.

    At each chosen coordinate, a random permutation moves the M values among the networks, so that their sum stays. The vector
    is divided into p · size blocks of equal length, and one coordinate of each is drawn. So none is chosen twice, and their
    number does not depend on the draw, for which a GPU's host would have to wait.
    """

    name, version = "shuffle", 1

    class Options(harness.Options):
        """Options of the shuffle."""

        p: float = Field(0.001, ge=0, le=1, description="share of the coordinates that are shuffled after each step; 0: none")

    def simplified(self, members: int) -> Coupling | None:
        """Return None if nothing is shuffled: at p = 0, or for one network."""
        return None if self.options.p == 0 or members == 1 else self

    def after_step(self, members: Sequence[Tensor], step: CouplingStep) -> None:
        """Shuffle the values at random coordinates."""
        import torch

        if self.options.p == 0:
            return
        first = members[0]
        chosen = self._coordinates(len(first), step.stream, first.device)
        count = len(chosen)
        counters = torch.arange(count, (len(members) + 1) * count, device=first.device).view(len(members), count)
        order = streams.bits(step.stream, counters).argsort(dim=0, stable=True)
        values = torch.stack([parameters.index_select(0, chosen) for parameters in members]).gather(0, order)
        for parameters, own in zip(members, values.unbind(), strict=True):
            parameters.index_copy_(0, chosen, own)

    def _coordinates(self, size: int, stream: int, device: torch.device) -> Tensor:
        """Return the chosen coordinates, all different: p · size of them, rounded, and at least one."""
        import torch

        count = max(1, round(self.options.p * size))
        blocks = torch.arange(count + 1, device=device) * size // count
        lengths = blocks[1:] - blocks[:-1]
        offsets = (streams.uniform(stream, torch.arange(count, device=device)).double() * lengths).long()
        return blocks[:-1] + offsets
