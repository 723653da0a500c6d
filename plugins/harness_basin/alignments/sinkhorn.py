"""Alignment of a pair by Sinkhorn re-basin (Peña et al. 2023), as a derivation. See the package `matching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict
from harness_basin.alignments.checking import (
    TOLERANCE,
    check_batches,
    check_parents,
    function_difference,
    norm_ratio,
    permutation_symmetry,
    require_permutations,
)

if TYPE_CHECKING:
    from harness_basin.matching import Symmetry
    from harness_basin.matching.sinkhorn_rebasin.sinkhorn_matching import SinkhornMatching


class SinkhornRebasin(Alignment):
    """The second of two parents, with its units permuted as a differentiable relaxation of permutations has learned."""

    name, version = "sinkhorn", 1

    class Options(harness.Options):
        """Options of Sinkhorn re-basin (Peña et al. 2023)."""

        loss: Literal["l1", "l2", "midpoint", "random"] = Field(
            "l2",
            description="what is minimized: the mean absolute or squared difference of weights, or the loss on training images "
            "halfway between the networks, or at a random point between them per batch",
        )
        steps: int = Field(50, ge=1, le=1_000_000, description="number of gradient steps with the losses l1 and l2")
        epochs: int = Field(20, ge=1, le=10_000, description="number of epochs with the losses midpoint and random")
        batch_size: int = Field(128, ge=2, description="number of images per step with the losses midpoint and random")
        learning_rate: float = Field(0.1, gt=0, description="AdamW's learning rate")
        start: Literal["noisy", "identity"] = Field(
            "noisy", description="raw matrices at the start: the identity, with 0.1 · N(0, 1) added or without"
        )
        inverse_temperature: float = Field(1.0, gt=0, description="factor of raw matrices before Sinkhorn's normalization")
        rounds: int = Field(20, ge=1, le=1000, description="smallest number of rounds of Sinkhorn's normalization")
        soft: bool = Field(
            False, description="use the last soft maps, which change the function (method fused), instead of permutations"
        )

    @property
    def keeps_function(self) -> bool:
        """Whether the maps are permutations."""
        return not self.options.soft

    @property
    def epochs(self) -> float:  # type: ignore[override]
        """The epochs of training: those of the losses on training images."""
        if self._reads_images:
            return float(self.options.epochs)
        return 0.0

    @property
    def _reads_images(self) -> bool:
        return self.options.loss in ("midpoint", "random")

    def check(self, context: DerivationContext) -> None:
        """Raise an error for a network without permutation symmetry, or with BatchNorm and batches of a single image."""
        require_permutations(self.name, context)
        if self._reads_images:
            check_batches(self.name, context, context.network(), self.options.batch_size)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the moved weights, and the losses. Raise `TaskFailed` if steps diverge or permutations change the function."""
        from harness_basin.matching import permute
        from harness_basin.matching.coordinate_descent.gram import inner_product
        from harness_basin.matching.sinkhorn_rebasin.soft_maps import map_state

        check_parents(self, parents, context)
        reference, other = parents
        symmetry = permutation_symmetry(context)
        found = self._found(symmetry, reference, other, context)
        if self.keeps_function:
            moved = permute(symmetry, found.permutations, other)
        else:
            moved = map_state(symmetry, found.maps, other)
        facts = {
            "objective": inner_product(symmetry, reference, moved),
            "loss": found.loss,
            "identity_loss": found.identity_loss,
            "soft_loss": found.soft_loss,
            "rounded_loss": found.rounded_loss,
            "worse_than_identity": (found.loss if self.keeps_function else found.soft_loss) > found.identity_loss,
            "trace": list(found.trace),
            "singular_systems": found.singular,
            "assignments": found.assignments,
            "images": found.images,
            "gradient_steps": found.steps,
            "norm_ratio": norm_ratio(symmetry, other, moved),
            "function_difference": function_difference(context, other, moved, TOLERANCE if self.keeps_function else inf),
        }
        return [moved], facts

    def _found(
        self, symmetry: Symmetry, reference: StateDict, other: StateDict, context: DerivationContext
    ) -> SinkhornMatching:
        from harness_basin.matching.sinkhorn_rebasin.sinkhorn_matching import match_by_sinkhorn
        from harness_basin.matching.sinkhorn_rebasin.sinkhorn_relaxation import RelaxationSettings
        from harness_basin.matching.sinkhorn_rebasin.sinkhorn_training import train_maps

        options = self.options
        settings = RelaxationSettings(
            noise=0.1 if options.start == "noisy" else 0.0,
            inverse_temperature=options.inverse_temperature,
            rounds=options.rounds,
            learning_rate=options.learning_rate,
        )
        if self._reads_images:
            check_batches("sinkhorn", context, context.network(), options.batch_size)
            return train_maps(
                context,
                symmetry,
                reference,
                other,
                position=options.loss,
                epochs=options.epochs,
                batch_size=options.batch_size,
                settings=settings,
            )
        return match_by_sinkhorn(
            symmetry, reference, other, distance=options.loss, steps=options.steps, settings=settings, stream=context.stream
        )
