"""Straight-through matching of a whole ensemble (STE-MM), as a derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import check_batches, check_parents, require_permutations
from harness_basin.alignments.straight_through import OptimizerName, TrainingPlan, align


class JointStraightThroughMatching(Alignment):
    """All parents, with hidden units permuted so that the loss at mixtures of all is low. Their functions do not change."""

    name, version = "joint_straight_through_matching", 1
    choice_name, joint = "ste_mm", True

    class Options(harness.Options):
        """Options of STE-MM, with the published values."""

        epochs: int = Field(
            10, ge=0, le=10_000, description="passes over the training images; 0: weight matching to the first member"
        )
        batch_size: int = Field(256, ge=1, description="number of images per step, at most")
        optimizer: OptimizerName = Field("adam", description="how the latent points move: adam or sgd")
        learning_rate: float = Field(1e-3, ge=0, description="constant learning rate of the latent points")
        momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
        center: bool = Field(False, description="train at the members' mean; false: at a mixture drawn from Dir(1) per step")
        max_sweeps: int = Field(300, ge=1, description="maximum number of sweeps over the permutations per matching")
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

    @property
    def epochs(self) -> float:  # type: ignore[override]
        """One pass over the training images costs an epoch of plain training, for any M above 1."""
        return float(self.options.epochs) if self.options.members > 1 else 0.0

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with BatchNorm and batches of a single image."""
        require_permutations(self.choice_name, context)
        if self.options.epochs:
            check_batches(self.choice_name, context, context.network(), self.options.batch_size)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the losses. Raise `TaskFailed` if a loss is not finite or a function changes."""
        check_parents(self, parents, context)
        return align(self.choice_name, parents, context, TrainingPlan.of(self.options, center=self.options.center))
