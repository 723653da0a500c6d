"""Alignment of an ensemble by the correlations of its units' activations, as a derivation. See `matching.activations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

import harness
from harness import Alignment, DerivationContext, StateDict, TaskFailed, streams
from harness_basin.alignments.checking import check_parents, function_difference, in_parentheses, require_permutations

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness_basin.matching.activation.features import FeatureMap
    from harness_basin.matching.activation.similarity_matching import SimilarityMatching

DEFAULT_IMAGES = 5000
"""The number of training images that are read, or all of a smaller set."""

LARGEST_BATCH = 32
"""Images per batch at most: the memory is that of one batch of activations per member."""


class ActivationMatching(Alignment):
    """All parents, with hidden units permuted so that matched units have correlated activations on training images.

    The variant of REPAIR (Jordan et al., ICLR 2023): Pearson correlations over all images and positions. No labels are read.
    """

    name, version = "activation_matching", 1
    choice_name, joint = "activations", True

    class Options(harness.Options):
        """What is measured, and what may move."""

        images: int | None = Field(
            None, ge=2, description="number of training images; null: 5000, or all of a smaller training set"
        )
        similarity: Literal["pearson", "uncentered"] = Field(
            "pearson", description="of two units: their correlation, or the mean of the product of their activations"
        )
        residual: Literal["match", "identity"] = Field(
            "match", description="residual streams: permute their units like all others, or leave them in their order"
        )
        members: int = Field(1, ge=1, description="M, the number of networks; methods set it")

    def check(self, context: DerivationContext) -> None:
        """Raise `TaskFailed` for fewer training images than asked for, and for a network without units to permute."""
        features, _ = _features(context, self._chosen_images(context))
        if features.features or features.dependent:
            return
        if features.symmetry.groups:
            unplaced = [features.symmetry.groups[group].name for group in features.unplaced]
            raise TaskFailed(f"activations: no hidden unit has activations of its own{in_parentheses(unplaced)}; take weights")
        require_permutations(self.choice_name, context)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the permuted weights, and the objective. Raise `TaskFailed` if a function changes or activations diverge."""
        from harness_basin.matching import permute

        check_parents(self, parents, context)
        chosen = self._chosen_images(context)
        features, device = _features(context, chosen)
        symmetry = features.symmetry
        states: list[StateDict] = [{name: tensor.detach().clone() for name, tensor in state.items()} for state in parents]
        steps = []
        for step_features in (features, features.of_dependent()):
            if step_features.features and len(parents) > 1:
                batches = _batches(context, chosen, device)
                found = self._matched(context.network().to(device), states, step_features, batches)
                states = [permute(symmetry, own, state) for own, state in zip(found.permutations, states, strict=True)]
                steps.append(found)
        differences = [function_difference(context, before, after) for before, after in zip(parents, states, strict=True)]
        every = (*features.features, *features.dependent)
        objective = float(sum(step.objective for step in steps))
        identity_objective = float(sum(step.identity_objective for step in steps))
        facts = {
            "objective": objective,
            "identity_objective": identity_objective,
            "worse_than_identity": objective < identity_objective,
            "assignments": sum(step.assignments for step in steps),
            "images": len(steps) * len(chosen),
            "gradient_steps": 0,
            "places": {symmetry.groups[one.group].name: [str(place) for place in one.places] for one in every},
            "groups_without_activations": [symmetry.groups[group].name for group in features.unplaced],
            "function_differences": differences,
        }
        return states, facts

    def _matched(
        self, network: nn.Module, states: Sequence[StateDict], features: FeatureMap, batches: Iterator[Tensor]
    ) -> SimilarityMatching:
        """Return the matching of members by some features."""
        from harness_basin.matching.activation.activations import unit_similarities
        from harness_basin.matching.activation.similarity_matching import match_by_similarity

        pairs = unit_similarities(network, states, features, batches, self.options.similarity)
        unmoved = [one.group for one in features.features if one.residual and self.options.residual == "identity"]
        return match_by_similarity(features.symmetry, pairs, len(states), unmoved=unmoved)

    def _chosen_images(self, context: DerivationContext) -> Tensor:
        """Return the numbers of the training images to read, a multiple of the batch size."""
        size = len(context.train.images)
        wanted = self.options.images
        if wanted is not None and wanted > size:
            raise TaskFailed(f"activations: images is {wanted}; the training set has {size}: at most that, or leave it out")
        if size < 2:
            raise TaskFailed(f"activations: correlations need at least 2 training images; the training set has {size}")
        count = wanted or min(DEFAULT_IMAGES, size)
        batch = batch_size(count)
        order = streams.permutation(streams.key("activations", context.stream), size)
        return order[: count // batch * batch]


def batch_size(images: int) -> int:
    """Return the size of equal batches, from 17 to 32, that leave out the fewest images; all images if there are fewer."""
    if images <= LARGEST_BATCH:
        return images
    sizes = range(LARGEST_BATCH, LARGEST_BATCH // 2, -1)
    return max(sizes, key=lambda size: images // size * size)


def _batches(context: DerivationContext, chosen: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Yield the normalized training images of the given numbers in equal batches."""
    for numbers in chosen.split(batch_size(len(chosen))):
        yield context.normalize(context.train.images[numbers]).to(device)


def _features(context: DerivationContext, chosen: Tensor) -> tuple[FeatureMap, torch.device]:
    """Return where units stand in activations, and the device to run on.

    That is the CPU if an operation of the run on the context's device is not known.
    """
    import torch

    from harness_basin.matching import UnknownOperation
    from harness_basin.matching.activation.features import find_features

    images = context.normalize(context.train.images[chosen[:3]])
    cpu = torch.device("cpu")
    if context.device.type != "cpu":
        try:
            return find_features(context.network().to(context.device), images), context.device
        except UnknownOperation:
            pass  # fused operations of a GPU; the CPU runs others
    return find_features(context.network(), images.to(cpu)), cpu
