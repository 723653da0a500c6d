"""Cycle-consistent alignment of an ensemble (Crisostomi et al. 2024), as a derivation. See the package `matching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import (
    check_parents,
    function_difference,
    permutation_symmetry,
    require_permutations,
)


class CycleConsistentAlignment(Alignment):
    """All parents, with hidden units permuted by C2M3: Frank-Wolfe steps over relaxed permutations into a common order."""

    name, version = "cycle_consistent_matching", 1
    choice_name, joint = "c2m3", True

    class Options(harness.Options):
        """Options of C2M3."""

        start: Literal["identity", "uniform"] = Field(
            "identity", description="where the first search starts: at the given order of units, or at random near the center"
        )
        restarts: int = Field(
            1, ge=1, le=1000, description="number of searches; further ones start at random near the center; the best is kept"
        )
        max_steps: int = Field(200, ge=1, description="maximum number of Frank-Wolfe steps per search")
        tolerance: float = Field(
            1e-6, ge=0, description="relative gain under which a step counts as idle; five idle steps in a row end a search"
        )
        descent: bool = Field(False, description="whether Multi-PCD (joint_weights) continues from the rounded permutations")
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with an operation whose symmetry is not known."""
        require_permutations(self.choice_name, context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the objectives with the trace. Raise `TaskFailed` if a function changes."""
        from harness_basin.matching import match_cycle_consistently, match_jointly, permute

        check_parents(self, parents, context)
        symmetry = permutation_symmetry(context)
        found = match_cycle_consistently(
            symmetry,
            parents,
            stream=context.stream,
            start=self.options.start,
            restarts=self.options.restarts,
            max_steps=self.options.max_steps,
            tolerance=self.options.tolerance,
        )
        objective = found.objective
        members = found.permutations
        assignments = found.assignments
        if self.options.descent:
            descended = match_jointly(symmetry, parents, stream=context.stream, start=members)
            objective = descended.objective
            members = descended.permutations
            assignments += descended.assignments
        permuted = []
        differences = []
        for permutations, state in zip(members, parents, strict=True):
            permuted.append(permute(symmetry, permutations, state))
            differences.append(function_difference(context, state, permuted[-1]))
        facts = {
            "objective": objective,
            "start_objective": found.start_objective,
            "relaxed_objective": found.relaxed_objective,
            "rounded_objective": found.objective,
            "worse_than_identity": objective < found.start_objective,
            "trace": list(found.trace),
            "steps": found.steps,
            "assignments": assignments,
            "images": 0,
            "gradient_steps": 0,
            "function_differences": differences,
        }
        return permuted, facts
