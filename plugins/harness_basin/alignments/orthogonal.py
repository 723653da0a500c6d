"""Alignment of transformers by rotations of the residual stream, maps within heads and permutations, as a derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict, TaskFailed
from harness_basin.alignments.checking import function_difference, permutation_symmetry

if TYPE_CHECKING:
    from torch import Tensor

    from harness_basin.matching.normal_form import NormalForm
    from harness_basin.matching.residual_groups import ResidualGroups

STORED_TOLERANCE = 1e-5
"""The largest relative difference of outputs that is accepted from storing aligned weights in the members' type."""


class OrthogonalMatching(Alignment):
    """All parents in a normal form, with rotated residual streams, mapped heads and permuted units (Theus et al. 2025)."""

    name, version = "orthogonal_matching", 1
    choice_name, joint, normal_form = "orthogonal", True, True

    class Options(harness.Options):
        """Options of GLMC's weight matching."""

        rotate: bool = Field(True, description="false: the normal form only, which is the control for what the alignment adds")
        maps: Literal["orthogonal", "invertible"] = Field("invertible", description="the maps of dimensions within heads")
        sweeps: int = Field(5, ge=1, le=1000, description="maximum number of sweeps over the groups, and of rounds over the members")
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the moved weights, the distances, and the objective. Raise `TaskFailed` if a function changes."""
        from harness_basin.matching.joint_residual import match_residual_jointly
        from harness_basin.matching.moves import arrays_of, state_of

        form = _normal_form_of(context, self.options.maps)
        normal = [form.of(state, f"member {number}") for number, state in enumerate(parents)]
        arrays = [arrays_of(form.groups.symmetry, state) for state in normal]
        sweeps = self.options.sweeps if self.options.rotate else 0
        found = match_residual_jointly(form.groups, arrays, sweeps=sweeps, maps=self.options.maps, stream=context.stream)
        moved = [state_of(own, state) for own, state in zip(found.members, normal, strict=True)]
        stored, differences = _stored(parents, moved, context)
        facts = {
            "objective": found.objective,
            "distance": found.distance,
            "normal_form_distance": found.unmatched_distance,
            "traces": [list(trace) for trace in found.traces],
            "rounds": list(found.rounds),
            "assignments": found.assignments,
            "images": 0,
            "gradient_steps": 0,
            "function_differences": differences,
        }
        return stored, facts
