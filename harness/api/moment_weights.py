"""Handles of the moments of a training's weights: what derivations such as SWAG compute from. Nothing here computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.api.setting import Setting
from harness.api.specs import MomentSpec, WeightsLocation
from harness.api.trajectory import Checkpoint, Trajectory, Weights


@dataclass(frozen=True, eq=False)
class MomentWeights(Weights):
    """One collected moment at a checkpoint, a parent for derivations. Get them with `MomentWeights.of`.

    `part` is "moments-mean", "moments-square" (float64), or "moments-deviation-<k>" (float32). Its state dict has the names
    of the parameters and floating-point buffers. It is no member of an ensemble: derive members from it.
    """

    checkpoint: Checkpoint
    part: str

    @classmethod
    def of(cls, checkpoint: Weights) -> tuple[MomentWeights, ...]:
        """Return the moments at a checkpoint: mean, mean of squares, and the deviations, the oldest first.

        Raise `ValueError` for weights of a training that collects none, or has not begun to.
        """
        moments = checkpoint.trajectory.moments if isinstance(checkpoint, Checkpoint) else None
        if not isinstance(checkpoint, Checkpoint) or moments is None:
            raise ValueError("these weights have no moments; give their training or fork `moments`")
        collected = checkpoint.epoch - moments.first + 1
        if collected < 1:
            raise ValueError(f"epoch {checkpoint.epoch} has no moments; they are collected from epoch {moments.first} on")
        names = ["moments-mean", "moments-square"]
        names += [f"moments-deviation-{column}" for column in range(min(moments.columns, collected))]
        return tuple(cls(checkpoint, name) for name in names)

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The checkpoint's setting."""
        return self.checkpoint.setting

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """The checkpoint's epoch."""
        return self.checkpoint.epoch

    @property
    def origin(self) -> Trajectory:  # type: ignore[override]
        """The checkpoint's trajectory."""
        return self.checkpoint.trajectory

    @property
    def spec(self) -> MomentSpec:
        """The key of the checkpoint, and the name of the part."""
        return MomentSpec(checkpoint=self.checkpoint.key, part=self.part)

    @cached_property
    def location(self) -> WeightsLocation:
        """A part of the checkpoint's object."""
        return WeightsLocation(object=self.checkpoint.key, part=self.part)
