"""Cut an index into consecutive pieces, as slices and splits of an axis do."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.index_algebra.indices import (
    Index,
    concatenation,
    contexts,
    factors,
    family,
    fix,
    fixed,
    fixed_axes,
    product,
)
from harness_basin.matching.index_algebra.positions import at


def cut(index: Index, sizes: Sequence[int]) -> list[Index]:
    """Return consecutive pieces of an index with the given sizes, which add up to its size. Sizes may be 0."""
    nonempty = [size for size in sizes if size]
    pieces = iter(_cut_nonempty(index, nonempty))
    result = []
    for size in sizes:
        if size:
            result.append(next(pieces))
        else:
            result.append(fixed(0))
    return result


def _cut_nonempty(index: Index, sizes: Sequence[int]) -> list[Index]:
    if len(sizes) == 1:
        return [index]
    parts = factors(index)
    if len(parts) > 1:
        return _cut_product(parts, sizes)
    return _cut_factor(parts[0], sizes)


def _cut_product(parts: list[Index], sizes: Sequence[int]) -> list[Index]:
    """Cut a product between the units of its outermost factor, which is fixed. Fix all factors if a cut lies elsewhere."""
    outer = parts[0]
    inner = product(parts[1:])
    if any(size % inner.size for size in sizes):
        fix(product(parts))
        return fixed_axes(sizes)
    fix(outer)
    pieces = []
    start = 0
    for size in sizes:
        stop = start + size // inner.size
        pieces.append(_position_range(inner, outer, range(start, stop)))
        start = stop
    return pieces


def _position_range(inner: Index, outer: Index, positions: range) -> Index:
    """Return the product of a range of positions of a fixed outer index with the inner index at these positions."""
    if len(positions) == 1:
        return at(inner, outer, positions[0])
    block = fixed(len(positions))
    parts = [block]
    for factor in factors(inner):
        if outer in contexts(factor) or factor.form == "sum":
            members = [at(factor, outer, i) for i in positions]
            parts.append(Index(factor.size, form="family", parts=members, position=block))
        else:
            parts.append(factor)
    return product(parts)


def _cut_factor(index: Index, sizes: Sequence[int]) -> list[Index]:
    """Cut an irreducible index. A free index becomes the sum of its pieces."""
    if index.form == "family":
        rows = [cut(member, sizes) for member in index.parts]
        return [family(members, index.position) for members in zip(*rows)]
    if index.form == "sum":
        return _cut_sum(index, sizes)
    if index.form == "free":
        pieces = [Index(size, index.over) for size in sizes]
        index.become("sum", pieces)
        return pieces
    return fixed_axes(sizes)


def _cut_sum(index: Index, sizes: Sequence[int]) -> list[Index]:
    """Cut a sum, and the terms in which a cut lies. The index becomes the sum of the finer terms."""
    terms = list(index.parts)
    finer: list[Index] = []
    pieces = []
    for size in sizes:
        piece: list[Index] = []
        while size:
            if terms[0].size > size:
                terms[:1] = cut(terms[0], (size, terms[0].size - size))
            term = terms.pop(0)
            piece.append(term)
            size -= term.size
        pieces.append(concatenation(piece))
        finer += piece
    index.become("sum", finer)
    return pieces
