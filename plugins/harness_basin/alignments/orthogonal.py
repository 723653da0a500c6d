"""Alignment of transformers by rotations of the residual stream, maps within heads and permutations, as a derivation.

Weight matching and learned matching of GLMC (Theus et al. 2025) in the space of the network's ordinary weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

import harness
from harness import Alignment, DerivationContext, StateDict, TaskFailed
from harness_basin.alignments.checking import check_parents, function_difference, in_parentheses, permutation_symmetry

if TYPE_CHECKING:
    from harness_basin.matching.residual.moves import Arrays
    from harness_basin.matching.residual.normal_form import NormalForm

STORED_TOLERANCE = 1e-5
"""The largest relative difference of outputs that is accepted from storing aligned weights in the members' type."""


class OrthogonalMatching(Alignment):
    """All parents in a normal form, with rotated residual streams, mapped heads and permuted units.

    Their functions do not change.
    """

    name, version = "orthogonal_matching", 1
    choice_name, joint, normal_form = "orthogonal", True, True

    class Options(harness.Options):
        """Options of weight matching and of learned matching."""

        rotate: bool = Field(True, description="whether members are aligned; false: normal form only, to see what that changes")
        maps: Literal["orthogonal", "invertible"] = Field(
            "invertible", description="the maps of dimensions within heads: orthogonal or invertible"
        )
        sweeps: int = Field(
            5, ge=1, le=1000, description="maximum number of sweeps over the groups, and of rounds over members"
        )
        learn_epochs: int = Field(0, ge=0, le=10_000, description="epochs in which maps are trained, after weight matching")
        learning_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of Adam, with learn_epochs")
        batch_size: int = Field(128, ge=1, description="images per gradient step, with learn_epochs")
        concentration: float = Field(
            0.1,
            gt=0,
            le=100,
            description="of the Dirichlet distribution of the points at which more than two members are trained",
        )
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

        @model_validator(mode="after")
        def _learning_rotates(self) -> OrthogonalMatching.Options:
            if self.learn_epochs and not self.rotate:
                raise ValueError(f"learn_epochs is {self.learn_epochs}, but rotate is false; leave one of them out")
            return self

    @property
    def epochs(self) -> float:  # type: ignore[override]
        """The epochs in which maps are trained, for any M above 1."""
        return float(self.options.learn_epochs) if self.options.members > 1 else 0.0

    def check(self, context: DerivationContext) -> None:
        """Raise `TaskFailed` for a network without a residual stream that can be rotated."""
        self._form(context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the moved weights, with distances and objective. Raise `TaskFailed` if a function changes."""
        from harness_basin.matching.residual.joint_residual import match_residual_jointly, total_distance, total_objective
        from harness_basin.matching.residual.moves import arrays_of, state_of

        check_parents(self, parents, context)
        options = self.options
        form = self._form(context)
        normal = [form.of(state, f"member {number}") for number, state in enumerate(parents)]
        arrays = [arrays_of(form.groups.symmetry, state) for state in normal]
        sweeps = options.sweeps if options.rotate else 0
        found = match_residual_jointly(form.groups, arrays, sweeps=sweeps, maps=options.maps, stream=context.stream)
        members, learned = self._learned(form, found.members, normal, context)
        moved = [state_of(own, state) for own, state in zip(members, normal, strict=True)]
        stored, differences = _stored(parents, moved, context)
        return stored, {
            "objective": total_objective(form.groups, members),
            "distance": total_distance(form.groups, members),
            "worse_than_identity": found.distance > found.unmatched_distance,
            "normal_form_distance": total_distance(form.groups, arrays),
            "traces": [list(trace) for trace in found.traces],
            "rounds": list(found.rounds),
            "assignments": found.assignments,
            "streams": len(form.groups.streams),
            "unused_streams": list(form.groups.unused),
            "function_differences": differences,
            **learned,
        }

    def _form(self, context: DerivationContext) -> NormalForm:
        """Derive the network's groups. Raise `TaskFailed` if it has no residual stream that can be rotated."""
        from harness_basin.matching import derive_linear_groups
        from harness_basin.matching.residual.normal_form import NormalForm, find_idle_biases
        from harness_basin.matching.residual.residual_groups import residual_groups

        network = context.network().eval()
        example = context.normalize(context.test.images[:2]).cpu()
        symmetry = permutation_symmetry(context)
        linear = derive_linear_groups(network, example, symmetry)
        groups = residual_groups(symmetry, linear.groups)
        if not groups.streams:
            reasons = [f"{found.name}: {found.reason}" for found in linear.refused if found.kind == "orthogonal"]
            raise TaskFailed(
                "the network has no residual stream that can be rotated: all that reads it has to be linear maps behind a "
                f"LayerNorm, as in pre-norm transformers; use another alignment{in_parentheses([*groups.unused, *reasons])}"
            )
        return NormalForm(groups, find_idle_biases(network, groups, example), balanced=self.options.maps == "invertible")

    def _learned(
        self, form: NormalForm, members: Sequence[Arrays], normal: Sequence[StateDict], context: DerivationContext
    ) -> tuple[Sequence[Arrays], dict[str, Any]]:
        """Return the members after the training of their maps, if there is any, and the facts about it."""
        from harness_basin.matching.residual.learned_residual import Learning, learn_maps

        options = self.options
        if not options.learn_epochs or len(members) < 2:
            return members, {"images": 0, "gradient_steps": 0}
        learning = Learning(options.learn_epochs, options.batch_size, options.learning_rate, options.concentration)
        learned = learn_maps(form.groups, members, normal, context, maps=options.maps, learning=learning)
        return learned.members, {
            "images": learned.images,
            "gradient_steps": learned.steps,
            "losses": list(learned.losses),
            "normal_form_loss": learned.unaligned_loss,
            "worse_than_identity": min(learned.losses) > learned.unaligned_loss,
        }


def _stored(
    parents: Sequence[StateDict], moved: Sequence[StateDict], context: DerivationContext
) -> tuple[list[StateDict], list[float]]:
    """Return weights in the parents' types, and the changes of outputs in float64 before that."""
    stored = []
    differences = []
    for parent, exact in zip(parents, moved, strict=True):
        differences.append(function_difference(context, parent, exact))
        stored.append({name: tensor.to(parent[name].dtype) for name, tensor in exact.items()})
        function_difference(context, parent, stored[-1], STORED_TOLERANCE)
    return stored, differences
