"""Alignment of a pair by greedy optimal transport (Singh and Jaggi 2020), as a derivation. See the package `matching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import (
    TOLERANCE,
    check_parents,
    function_difference,
    norm_ratio,
    permutation_symmetry,
    require_permutations,
)


class OptimalTransport(Alignment):
    """The second of two parents, with its units transported layer by layer to the first's, from the input to the output."""

    name, version = "ot", 1

    class Options(harness.Options):
        """Options of OT fusion's alignment (Singh and Jaggi 2020)."""

        normalize: bool = Field(False, description="divide the incoming weights of every unit by their norm before comparing")
        vectors: bool = Field(
            False, description="compare biases, scales and shifts, too; the source compares incoming weights alone"
        )
        regularization: float | None = Field(
            None,
            gt=0,
            description="factor of the entropy: gives soft maps, which change the function (method fused); none: permutations",
        )

    @property
    def keeps_function(self) -> bool:
        """Whether the maps are permutations."""
        return self.options.regularization is None

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with an operation whose symmetry is not known."""
        require_permutations(self.name, context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the transported weights, and the cost. Raise `TaskFailed` if permutations change the function."""
        from harness_basin.matching import permute
        from harness_basin.matching.coordinate_descent.gram import inner_product
        from harness_basin.matching.optimal_transport.linear_maps import linear_maps
        from harness_basin.matching.optimal_transport.transport import transport
        from harness_basin.matching.sinkhorn_rebasin.soft_maps import map_state

        check_parents(self, parents, context)
        reference, other = parents
        symmetry = permutation_symmetry(context)
        example = context.normalize(context.test.images[:2]).cpu()
        found = transport(
            symmetry,
            linear_maps(context.network(), example),
            reference,
            other,
            normalized=self.options.normalize,
            vectors=self.options.vectors,
            regularization=self.options.regularization,
        )
        if found.maps is None:
            moved = permute(symmetry, found.permutations, other)
        else:
            moved = map_state(symmetry, found.maps, other)
        facts = {
            "objective": inner_product(symmetry, reference, moved),
            "cost": found.cost,
            "identity_cost": found.identity_cost,
            "worse_than_identity": found.cost > found.identity_cost,
            "assignments": found.assignments,
            "images": 0,
            "gradient_steps": 0,
            "norm_ratio": norm_ratio(symmetry, other, moved),
            "function_difference": function_difference(context, other, moved, TOLERANCE if self.keeps_function else inf),
        }
        return [moved], facts
