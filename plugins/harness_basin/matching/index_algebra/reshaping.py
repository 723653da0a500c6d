"""Reshape axes row-major: regroup the factors of their indices, and split factors where the new shape requires it."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.index_algebra.indices import (
    Index,
    all_factors,
    equal_prefixes,
    family,
    fix,
    fixed,
    fixed_axes,
    product,
    sizes,
)
from harness_basin.matching.index_algebra.positions import at_flat


def reshape(axes: Sequence[Index], shape: Sequence[int]) -> list[Index]:
    """Return the indices of a row-major reshape to a shape with the same number of elements."""
    remaining = all_factors(axes)
    targets = list(shape)
    result: list[Index] = []
    while targets:
        taken = _take(remaining, targets)
        result += taken
        targets = targets[len(taken) :]
    return result


def split(index: Index, outer: int, inner: int) -> tuple[Index, Index]:
    """Turn an irreducible index into a product of sizes (outer, inner); return the two factors."""
    if index.form == "family" and index.position is not None:
        first, second = _split_family(index, outer, inner)
    elif index.form == "sum" and all(term.size % inner == 0 for term in index.parts):
        first, second = _split_sum(index, outer, inner)
    elif index.form == "free":
        first = Index(outer, index.over)
        second = Index(inner, (*index.over, first))
    else:
        fix(index)
        first = fixed(outer)
        second = fixed(inner)
    index.become("product", (first, second))
    return first, second


def _split_family(index: Index, outer: int, inner: int) -> tuple[Index, Index]:
    """Split every member of a family."""
    firsts = []
    seconds = []
    for member in index.parts:
        first, second = reshape([member], (outer, inner))
        firsts.append(first)
        seconds.append(second)
    return family(firsts, index.position), family(seconds, index.position)


def _split_sum(index: Index, outer: int, inner: int) -> tuple[Index, Index]:
    """Return a fixed outer index and a family of inner indices, one per block of `inner` units."""
    members: list[Index] = []
    for term in index.parts:
        block, unit = reshape([term], (term.size // inner, inner))
        fix(block)
        for i in range(block.size):
            members.append(at_flat(unit, block, i))
    first = fixed(outer)
    second = Index(inner, form="family", parts=members, position=first)
    return first, second


def _take(remaining: list[Index], targets: list[int]) -> list[Index]:
    """Remove the factors of the first target axis from the list and return its index.

    Return several axes if no boundary between factors lies at the end of the first one.
    """
    taken: list[Index] = []
    need = targets[0]
    while need > 1 and remaining:
        factor = remaining[0]
        if factor.size > need and factor.size % need == 0:
            halves = split(factor, need, factor.size // need)
            remaining[:1] = all_factors(halves)
            continue
        if need % factor.size:
            return _take_fixed(taken + remaining, remaining, targets)
        taken.append(remaining.pop(0))
        need //= factor.size
    if not taken:
        return [fixed(targets[0])]
    return [product(taken)]


def _take_fixed(candidates: list[Index], remaining: list[Index], targets: list[int]) -> list[Index]:
    """Fix the factors that the targets do not divide; return fixed axes for the targets that these factors fill."""
    count, target_count = equal_prefixes(sizes(candidates), targets)
    for factor in candidates[:count]:
        fix(factor)
    already_taken = len(candidates) - len(remaining)
    del remaining[: count - already_taken]
    return fixed_axes(targets[:target_count])
