"""Tie indices that have to be permuted in the same way, and drop the contexts that an array cannot resolve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness_basin.matching.index_algebra.cutting import cut
from harness_basin.matching.index_algebra.indices import (
    Index,
    all_factors,
    contexts,
    equal_prefixes,
    factors,
    fix,
    own_contexts,
    product,
    root,
    sizes,
    without,
)
from harness_basin.matching.index_algebra.positions import all_at, at
from harness_basin.matching.index_algebra.reshaping import split


def tie(x: Index, y: Index) -> None:
    """Require that two indices of one size are permuted in the same way."""
    a = factors(x)
    b = factors(y)
    while a and b:
        count_a, count_b = equal_prefixes(sizes(a), sizes(b))
        _tie_runs(a[:count_a], b[:count_b])
        a = all_factors(a[count_a:])
        b = all_factors(b[count_b:])


def tie_all(pairs: Iterable[tuple[Index, Index]]) -> None:
    """Tie the indices of several axes. Outer indices are tied before the indices that are over them."""
    for x, y in sorted(pairs, key=lambda pair: min(_depth(pair[0]), _depth(pair[1]))):
        tie(x, y)


def drop_context(index: Index, outer: Index) -> None:
    """Require that the index is permuted in the same way for every unit of an outer index, which is irreducible."""
    for factor in factors(index):
        if factor.form == "family" and factor.position is not None and root(factor.position) is outer:
            first = factor.parts[0]
            for other in factor.parts[1:]:
                tie(first, other)
            factor.become("same", (first,))
            drop_context(first, outer)
        elif factor.parts:
            for part in factor.parts:
                drop_context(part, outer)
        else:
            factor.over = tuple(without(contexts(factor), outer))


def drop_ambiguous_contexts(axes: Sequence[Index]) -> None:
    """Drop the contexts that occur not exactly once among the axes of an array.

    Without the outer axis, or with two copies of it, the array does not say which outer unit an inner unit belongs to.
    """
    parts = all_factors(axes)
    for k, part in enumerate(parts):
        if part.form == "sum":
            for term in part.parts:
                drop_ambiguous_contexts([*parts[:k], term, *parts[k + 1 :]])
            return
    count = Counter(parts)
    for part in parts:
        for context in own_contexts(part):
            if count[context] != 1:
                drop_context(part, context)
                drop_ambiguous_contexts(parts)
                return
    for part in parts:
        if part.position is not None:
            position = root(part.position)
            for i in range(position.size):
                drop_ambiguous_contexts(all_at(without(parts, position), position, i))
            return


def _depth(index: Index) -> int:
    return max((len(contexts(factor)) for factor in factors(index)), default=0)


def _tie_runs(a: list[Index], b: list[Index]) -> None:
    """Tie two lists of factors whose sizes have the same product."""
    if len(a) == 1 and len(b) == 1:
        _tie_factors(a[0], b[0])
        return
    if len(b) == 1:
        a, b = b, a
    if len(a) == 1 and a[0].form == "free":
        _tie_free_to_product(a[0], b)
    elif len(a) == 1 and a[0].form == "sum":
        _tie_sum(a[0], product(b))
    else:
        _align_products(a, b)


def _tie_free_to_product(index: Index, parts: list[Index]) -> None:
    """Turn a free index into a product. The factors lose the contexts that the index does not have."""
    for factor in parts:
        _keep_contexts(factor, [*contexts(index), *parts])
    index.become("product", parts)


def _tie_sum(index: Index, other: Index) -> None:
    """Tie the terms of a sum to the pieces of another index."""
    pieces = cut(other, sizes(index.parts))
    for term, piece in zip(index.parts, pieces):
        tie(term, piece)


def _align_products(a: list[Index], b: list[Index]) -> None:
    """Split the larger of two outermost factors so that the products align. Fix both products if its size does not divide."""
    large, small = a[0], b[0]
    if large.size < small.size:
        large, small = small, large
    if large.size != small.size and large.size % small.size == 0:
        split(large, small.size, large.size // small.size)
        tie(product(a), product(b))
    else:
        fix(product(a))
        fix(product(b))


def _tie_factors(x: Index, y: Index) -> None:
    """Tie two irreducible indices."""
    if x is y:
        return
    if "fixed" in (x.form, y.form):
        fix(x)
        fix(y)
        y.become("same", (x,))
        return
    for inner, outer in ((x, y), (y, x)):
        if outer in contexts(inner):
            drop_context(inner, outer)
            tie(x, y)
            return
    if x.form == "family":
        _tie_family(x, y)
    elif y.form == "family":
        _tie_family(y, x)
    elif x.form == "sum":
        _tie_sum(x, y)
    elif y.form == "sum":
        _tie_sum(y, x)
    else:
        others = contexts(y)
        x.over = tuple(context for context in contexts(x) if context in others)
        y.become("same", (x,))


def _tie_family(index: Index, other: Index) -> None:
    """Tie every member of a family to the other index at the member's position.

    If the other index does not depend on the position, this ties all members to one another.
    """
    assert index.position is not None
    position = root(index.position)
    for i, member in enumerate(index.parts):
        tie(member, at(other, position, i))


def _keep_contexts(index: Index, allowed: Sequence[Index]) -> None:
    """Drop every context of a factor that is not among the allowed ones."""
    for context in own_contexts(index):
        if context not in allowed:
            drop_context(index, context)
    index = root(index)
    for i, part in enumerate(index.parts):
        allowed_here = allowed
        if index.position is not None:
            position = root(index.position)
            allowed_here = all_at(allowed, position, i)
        for factor in factors(part):
            _keep_contexts(factor, [*allowed_here, *factors(part)])
