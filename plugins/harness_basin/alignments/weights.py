"""Alignment of a pair and of an ensemble by permutation coordinate descent, as derivations. See the package `matching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import (
    check_parents,
    function_difference,
    permutation_symmetry,
    require_permutations,
)


class MatchingOptions(harness.Options):
    """Options of permutation coordinate descent (Ainsworth et al. 2023, algorithm 1)."""

    restarts: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of descents; the first starts at the identity, the others at random; the best is kept",
    )
    max_sweeps: int = Field(100, ge=1, description="maximum number of sweeps over the permutations per descent")


class WeightMatching(Alignment):
    """The second of two parents, with its hidden units permuted to align its weights with the first's.

    Its function does not change.
    """

    name, version = "weight_matching", 1
    choice_name = "weights"
    Options = MatchingOptions

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with an operation whose symmetry is not known."""
        require_permutations(self.choice_name, context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the objective with its trace. Raise `TaskFailed` if the function changes."""
        from harness_basin.matching import match, permute

        check_parents(self, parents, context)
        reference, other = parents
        symmetry = permutation_symmetry(context)
        found = match(
            symmetry,
            reference,
            other,
            stream=context.stream,
            restarts=self.options.restarts,
            max_sweeps=self.options.max_sweeps,
        )
        permuted = permute(symmetry, found.permutations, other)
        facts = {
            "objective": found.objective,
            "trace": [list(objectives) for objectives in found.trace],
            "sweeps": found.sweeps,
            "worse_than_identity": found.objective < found.trace[0][0],
            "assignments": found.assignments,
            "images": 0,
            "gradient_steps": 0,
            "function_difference": function_difference(context, other, permuted),
        }
        return [permuted], facts


class JointWeightMatching(Alignment):
    """All parents, with hidden units permuted to maximize Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩ (paper, appendix A)."""

    name, version = "joint_weight_matching", 1
    choice_name, joint = "joint_weights", True

    class Options(harness.Options):
        """Options of Multi-PCD."""

        max_sweeps: int = Field(100, ge=1, description="maximum number of sweeps each time a member is matched to the others")
        restarts: int = Field(
            1,
            ge=1,
            le=1000,
            description="number of descents; the first starts at the identity, the others at random; the best is kept",
        )
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity without `restarts` where it is 1, so that a single descent has the key that it had before the option."""
        own = super().identity
        if self.options.restarts > 1:
            return own
        options = {name: value for name, value in own["options"].items() if name != "restarts"}
        return {**own, "options": options}

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with an operation whose symmetry is not known."""
        require_permutations(self.choice_name, context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the objective with its trace. Raise `TaskFailed` if a function changes."""
        from harness_basin.matching import match_jointly, permute
        from harness_basin.matching.coordinate_descent.joint import joint_objective

        check_parents(self, parents, context)
        symmetry = permutation_symmetry(context)
        found = match_jointly(
            symmetry, parents, stream=context.stream, restarts=self.options.restarts, max_sweeps=self.options.max_sweeps
        )
        permuted = []
        differences = []
        for permutations, state in zip(found.permutations, parents, strict=True):
            permuted.append(permute(symmetry, permutations, state))
            differences.append(function_difference(context, state, permuted[-1]))
        facts = {
            "objective": found.objective,
            "trace": list(found.trace),
            "worse_than_identity": found.objective < joint_objective(symmetry, parents),
            "assignments": found.assignments,
            "images": 0,
            "gradient_steps": 0,
            "function_differences": differences,
        }
        return permuted, facts
