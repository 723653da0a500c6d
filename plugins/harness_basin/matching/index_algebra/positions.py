"""Select what an index is at one position of a fixed index."""

from __future__ import annotations

from collections.abc import Iterable

from harness_basin.matching.index_algebra.indices import Index, concatenation, contexts, factors, family, product, root, without


def at(index: Index, position: Index, i: int) -> Index:
    """Return the index at position i of a fixed index.

    `position` is irreducible. A free index that is over it becomes a family of one unrelated index per position.
    """
    parts = factors(index)
    if not parts:
        return index
    if len(parts) > 1:
        return product(all_at(parts, position, i))
    factor = parts[0]
    if factor.form == "sum":
        return concatenation(all_at(factor.parts, position, i))
    if position not in contexts(factor):
        return factor
    own = factor.position
    if factor.form == "family" and own is not None and root(own) is not position:
        return family(all_at(factor.parts, position, i), own)
    if factor.form == "free":
        _become_family(factor, position)
    return factor.parts[i]


def all_at(indices: Iterable[Index], position: Index, i: int) -> list[Index]:
    """Return several indices at position i of a fixed index."""
    return [at(index, position, i) for index in indices]


def at_flat(index: Index, position: Index, i: int) -> Index:
    """Return the index at position i of a fixed index that may be a product; i counts row-major."""
    for factor in reversed(factors(position)):
        i, remainder = divmod(i, factor.size)
        index = at(index, factor, remainder)
    return index


def _become_family(index: Index, position: Index) -> None:
    """Replace a free index by one new index per position. The members keep its other contexts."""
    others = without(contexts(index), position)
    members = [Index(index.size) for _ in range(position.size)]
    index.become("family", members, position)
    for i, member in enumerate(members):
        member.over = tuple(all_at(others, position, i))
