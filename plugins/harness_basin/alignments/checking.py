"""What every alignment does with its context: derive the network's symmetry, and check that functions stay."""

from __future__ import annotations

from collections.abc import Sequence
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


def require_finite(parents: Sequence[StateDict]) -> None:
    """Raise `TaskFailed` if a weight is infinite or not a number."""
    for number, state in enumerate(parents):
        for name, tensor in state.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise TaskFailed(
                    f"parent {number} of the alignment: '{name}' has values that are not finite; has this member diverged?"
                )


def inner_product(symmetry: Symmetry, first: StateDict, second: StateDict) -> float:
    """Return ⟨θ_1, θ_2⟩ over the weights that permutations move, in float64."""
    total = 0.0
    for block in symmetry.blocks:
        if block.counts:
            one = block.view(first[block.parameter].contiguous()).double()
            two = block.view(second[block.parameter].contiguous()).double()
            total += float((one * two).sum())
    return total
