"""Straight-through matching of a pair (Ainsworth et al. 2023, Git Re-Basin, algorithm 3), as a derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import check_batches, check_parents, require_permutations
from harness_basin.alignments.straight_through import OptimizerName, TrainingPlan, align


class StraightThroughMatching(Alignment):
    """The second of two parents, with its hidden units permuted so that the loss between the two is low.

    Its function does not change.
    """

    name, version = "straight_through_matching", 1
    choice_name = "ste"

    class Options(harness.Options):
        """Options of algorithm 3. The learning rate, momentum and batch size are those of the published script for VGG."""

        epochs: int = Field(10, ge=0, le=10_000, description="passes over the training images; 0: weight matching alone")
        batch_size: int = Field(500, ge=1, description="number of images per step, at most")
        optimizer: OptimizerName = Field("sgd", description="how the latent point moves: sgd or adam")
        learning_rate: float = Field(1e-2, ge=0, description="constant learning rate of the latent point")
        momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
        max_sweeps: int = Field(100, ge=1, description="maximum number of sweeps over the permutations per matching")

    @property
    def epochs(self) -> float:  # type: ignore[override]
        """One pass over the training images costs an epoch of plain training."""
        return float(self.options.epochs)

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with BatchNorm and batches of a single image."""
        require_permutations(self.choice_name, context)
        if self.options.epochs:
            check_batches(self.choice_name, context, context.network(), self.options.batch_size)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the losses. Raise `TaskFailed` if a loss is not finite or the function changes."""
        check_parents(self, parents, context)
        aligned, facts = align(self.choice_name, parents, context, TrainingPlan.of(self.options, center=True))
        differences = facts.pop("function_differences")
        return [aligned[1]], {**facts, "objective": facts["objective"] / 2, "function_difference": differences[1]}
