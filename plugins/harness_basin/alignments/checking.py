"""What every alignment does with its context: derive the network's symmetry, and check that functions stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import DerivationContext, StateDict, TaskFailed

if TYPE_CHECKING:
    from harness_basin.matching import Symmetry

CHECKED_IMAGES = 16
"""The number of test images on which outputs are compared before and after the alignment."""

TOLERANCE = 1e-9
"""Largest relative difference of outputs in float64 that is accepted as rounding."""


def permutation_symmetry(context: DerivationContext) -> Symmetry:
    """Derive the network's permutation symmetry from a run on two test images."""
    from harness_basin.matching import derive_symmetry

    return derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]).cpu())


def function_difference(context: DerivationContext, before: StateDict, after: StateDict, tolerance: float = TOLERANCE) -> float:
    """Return the relative difference of the outputs on test images, in float64. Raise `TaskFailed` above the tolerance."""
    from harness_basin.matching import functional_difference

    images = context.normalize(context.test.images[:CHECKED_IMAGES]).cpu()
    difference = functional_difference(context.network().eval(), before, after, images)
    if not difference <= tolerance:
        raise TaskFailed(
            f"the aligned network computes another function: outputs differ by {difference:.1e}, relative, in float64"
        )
    return difference
