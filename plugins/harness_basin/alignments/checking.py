"""What every alignment does with its parents and context: check them, derive the symmetry, check that functions stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import Alignment, DerivationContext, StateDict, TaskFailed

if TYPE_CHECKING:
    from torch import nn

    from harness_basin.matching import Symmetry

CHECKED_IMAGES = 16
"""The number of test images on which outputs are compared before and after the alignment."""

TOLERANCE = 1e-9
"""Largest relative difference of outputs in float64 that is accepted as rounding."""


def permutation_symmetry(context: DerivationContext) -> Symmetry:
    """Derive the network's permutation symmetry from a run on two test images."""
    from harness_basin.matching import derive_symmetry

    return derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]).cpu())


def require_permutations(name: str, context: DerivationContext) -> Symmetry:
    """Return the network's permutation symmetry. Raise `TaskFailed` if it has none: members would stay as they are.

    `name` is the alignment's, for the message.
    """
    symmetry = permutation_symmetry(context)
    if not symmetry.groups:
        raise TaskFailed(
            f"{name}: the network has no hidden units that can be permuted, so its members would stay as they are; leave the "
            "method out for it"
        )
    return symmetry


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


def check_parents(alignment: Alignment, parents: Sequence[StateDict], context: DerivationContext) -> None:
    """Check the networks that an alignment gets, before anything is computed.

    Raise `Mismatch` for another number of networks or for weights of another network, and `TaskFailed` for a weight that is
    infinite or not a number. Values that are infinite in the network as it is built, such as those of a mask, may be infinite.
    """
    from harness_basin.matching import Mismatch

    expected, meaning = 2, "an alignment of a pair has 2, the reference and the network to move"
    if alignment.joint:
        expected = alignment.outputs
        meaning = f"option members is {expected}"
    if len(parents) != expected:
        raise Mismatch(f"{alignment.full_name}: it got {len(parents)} networks; {meaning}")
    built = context.network().state_dict()
    for number, state in enumerate(parents):
        _check_parent(f"parent {number} of the alignment", state, built)


def _check_parent(label: str, state: StateDict, built: StateDict) -> None:
    """Check the names, shapes and values of one parent against those of the network as it is built."""
    from harness_basin.matching import Mismatch

    for name in state:
        if name not in built:
            raise Mismatch(f"{label}: parameter '{name}' is not one of the network's; members must be weights of one network")
    for name, own in built.items():
        if name not in state:
            raise Mismatch(f"{label}: parameter '{name}' is missing; members must be weights of one network")
        if state[name].shape != own.shape:
            raise Mismatch(
                f"{label}: parameter '{name}' has shape {tuple(state[name].shape)}, the network's has {tuple(own.shape)}; "
                "members must be weights of one network"
            )
        masked = own.isinf().to(state[name].device)
        if not bool((state[name].isfinite() | masked).all()):
            raise TaskFailed(f"{label}: '{name}' has values that are not finite; has this member diverged?")


def check_batches(name: str, context: DerivationContext, network: nn.Module, batch_size: int) -> None:
    """Raise `TaskFailed` if a batch of an epoch is a single image and the network has BatchNorm, which normalizes by the batch.

    `name` is the alignment's, for the message.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    size = len(context.train)
    batches = -(-size // batch_size)
    if size // batches > 1 or not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return
    raise TaskFailed(
        f"{name}: a batch of a single image has no statistics for BatchNorm; batch_size is {batch_size}, and the training set "
        f"has {size}: at least 2 images per batch"
    )


def norm_ratio(symmetry: Symmetry, before: StateDict, after: StateDict) -> float:
    """Return the norm of the moved weights relative to that before: 1 for permutations, less where soft maps average units."""
    from harness_basin.matching.coordinate_descent.gram import inner_product

    given = inner_product(symmetry, before, before)
    if given == 0:
        return 1.0
    return float((inner_product(symmetry, after, after) / given) ** 0.5)


def in_parentheses(reasons: Sequence[str]) -> str:
    """Return the reasons in parentheses after a space; empty without any."""
    return f" ({'; '.join(reasons)})" if reasons else ""
