"""Select what an index is at one position of a fixed index."""

from __future__ import annotations

from harness_basin.matching.indices import Index, concatenation, contexts, factors, family, product, root


def at(index: Index, position: Index, i: int) -> Index:
    """Return the index at position i of a fixed index.

    `position` is irreducible. A free index that is over it becomes a family of one unrelated index per position.
    """
    parts = factors(index)
    if not parts:
        return index
    if len(parts) > 1:
        return product([at(part, position, i) for part in parts])
    factor = parts[0]
    if factor.form == "sum":
        return concatenation([at(term, position, i) for term in factor.parts])
    if position not in contexts(factor):
        return factor
    own = factor.position
    if factor.form == "family" and own is not None and root(own) is not position:
        return family([at(member, position, i) for member in factor.parts], own)
    if factor.form == "free":
        _become_family(factor, position)
    return factor.parts[i]


def at_flat(index: Index, position: Index, i: int) -> Index:
    """Return the index at position i of a fixed index that may be a product; i counts row-major."""
    for factor in reversed(factors(position)):
        i, remainder = divmod(i, factor.size)
        index = at(index, factor, remainder)
    return index


def _become_family(index: Index, position: Index) -> None:
    """Replace a free index by one new index per position. The members keep its other contexts."""
    others = [context for context in contexts(index) if context is not position]
    members = [Index(index.size) for _ in range(position.size)]
    index.become("family", members, position)
    for i, member in enumerate(members):
        member.over = tuple(at(context, position, i) for context in others)
