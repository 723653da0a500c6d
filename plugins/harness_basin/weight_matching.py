"""Alignment as derived weights: permutation coordinate descent of a pair and of a whole ensemble (matching/ does the work)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

import harness
from harness import Derivation, DerivationContext, StateDict, TaskFailed

if TYPE_CHECKING:
    from harness_basin.matching import Symmetry

CHECKED_IMAGES = 16
TOLERANCE = 1e-9
"""Largest difference of outputs in float64, relative to their size, that rounding explains."""


class MatchingOptions(harness.Options):
    """Options of permutation coordinate descent (Ainsworth et al. 2023, algorithm 1)."""

    restarts: int = Field(
        1, ge=1, le=1000, description="descents; the first starts at the identity, others at random; the best is kept"
    )
    max_sweeps: int = Field(100, ge=1, description="largest number of sweeps over the permutations in a descent")


class WeightMatching(Derivation):
    """The second parent, its hidden units permuted so that its weights come closest to the first's. The function stays."""

    name, version = "weight_matching", 1
    Options = MatchingOptions

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted state, with the objective's trace; fail if the function has changed."""
        from harness_basin.matching import match, permute

        reference, other = parents
        symmetry = _symmetry(context)
        found = match(
            symmetry,
            reference,
            other,
            stream=context.stream,
            restarts=self.options.restarts,
            max_sweeps=self.options.max_sweeps,
        )
        permuted = permute(symmetry, found.permutations, other)
        difference = _checked(context, other, permuted)
        facts = {
            "objective": found.objective,
            "trace": _lists(found.trace),
            "sweeps": found.sweeps,
            "function_difference": difference,
        }
        return [permuted], facts


class JointWeightMatching(Derivation):
    """All parents permuted so that Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩ is as large as descent makes it (paper, appendix A)."""

    name, version = "joint_weight_matching", 1

    class Options(harness.Options):
        """Options of Multi-PCD."""

        max_sweeps: int = Field(100, ge=1, description="largest number of sweeps over the members, and within each match")
        members: int = Field(..., ge=1, description="M, the number of networks")

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """One permuted network per parent."""
        return self.options.members

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted states, with the objective's trace; fail if a function has changed."""
        from harness_basin.matching import match_jointly, permute

        symmetry = _symmetry(context)
        found = match_jointly(symmetry, parents, stream=context.stream, max_sweeps=self.options.max_sweeps)
        permuted = [permute(symmetry, p, state) for p, state in zip(found.permutations, parents, strict=True)]
        differences = [_checked(context, before, after) for before, after in zip(parents, permuted, strict=True)]
        return permuted, {"objective": found.objective, "trace": _lists(found.trace), "function_differences": differences}


def _symmetry(context: DerivationContext) -> Symmetry:
    """Derive the network's permutation symmetry from one real image."""
    from harness_basin.matching import derive_symmetry

    return derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]).cpu())


def _checked(context: DerivationContext, before: StateDict, after: StateDict) -> float:
    """Return how far the outputs on real images moved in float64; a permutation that changes the function is an error."""
    from harness_basin.matching import functional_difference

    images = context.normalize(context.test.images[:CHECKED_IMAGES]).cpu()
    difference = functional_difference(context.network().eval(), before, after, images)
    if not difference <= TOLERANCE:
        raise TaskFailed(
            f"the permuted network computes another function: outputs differ by {difference:.1e}, relative, in float64"
        )
    return difference


def _lists(trace: Any) -> Any:
    return [_lists(item) for item in trace] if isinstance(trace, (list, tuple)) else float(trace)
