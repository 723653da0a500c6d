"""Alignment of a pair by positive scales of hidden units, alone or with permutations, as a derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict, TaskFailed
from harness_basin.alignments.checking import check_parents, function_difference, in_parentheses, permutation_symmetry

if TYPE_CHECKING:
    from harness_basin.matching import LinearSymmetry, Symmetry

STORED_TOLERANCE = 1e-5
"""Largest relative difference of outputs that is accepted for weights as stored in float32."""


class ScaleAlignment(Alignment):
    """The second of two parents, with its hidden units scaled (and permuted) to the least L2 distance to the first's weights.

    Its function does not change.
    """

    name, version = "scale_alignment", 1
    choice_name = "scales"

    class Options(harness.Options):
        """Options of the alignment by scales."""

        permutations: bool = Field(False, description="alternate with weight matching; false: scales alone")
        max_sweeps: int = Field(1000, ge=1, description="maximum number of sweeps over the groups of scales per descent")

    def check(self, context: DerivationContext) -> None:
        """Raise `TaskFailed` for a network without positive scales (and permutations): its members would stay as they are."""
        symmetry, derived = _derived(context)
        if derived.of_kind("scale") or (self.options.permutations and symmetry.groups):
            return
        refused = [str(refusal) for refusal in derived.refused if refusal.kind == "scale"]
        raise TaskFailed(
            "scales: the network has no hidden units that can be scaled, so its members would stay as they are; leave the "
            f"method out for it{in_parentheses(refused)}"
        )

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the moved weights, and the distances with their trace. Raise `TaskFailed` if the function changes."""
        from harness_basin.matching import match_scales
        from harness_basin.matching.coordinate_descent.gram import inner_product

        check_parents(self, parents, context)
        reference, other = parents
        symmetry, derived = _derived(context)
        groups = derived.of_kind("scale")
        found = match_scales(
            *(symmetry, groups, reference, other, dict(context.network().named_parameters())),
            stream=context.stream,
            permutations=self.options.permutations,
            max_sweeps=self.options.max_sweeps,
        )
        moved = {name: tensor.to(other[name].dtype) for name, tensor in found.state.items()}
        facts = {
            "objective": inner_product(symmetry, reference, moved),
            "distance_before": found.distance_before,
            "distance": found.distance,
            "worse_than_identity": found.distance > found.distance_before,
            "trace": [list(distances) for distances in found.trace],
            "sweeps": found.sweeps,
            "scale_groups": len(groups),
            "scales": sum(group.count * group.size for group in groups),
            "refused": [str(refusal) for refusal in derived.refused if refusal.kind == "scale"],
            "assignments": found.assignments,
            "images": 0,
            "gradient_steps": 0,
            "function_difference_float64": function_difference(context, other, found.state),
            "function_difference": function_difference(context, other, moved, STORED_TOLERANCE),
        }
        return [moved], facts


def _derived(context: DerivationContext) -> tuple[Symmetry, LinearSymmetry]:
    """Return the network's permutation symmetry, and its groups of other kinds."""
    from harness_basin.matching import derive_linear_groups

    symmetry = permutation_symmetry(context)
    example = context.normalize(context.test.images[:2]).cpu()
    return symmetry, derive_linear_groups(context.network().eval(), example, symmetry)
