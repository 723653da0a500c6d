"""Indices of arrays, in Einstein's sense, and the symmetries they may have; knows nothing of networks.

Every axis of an array carries an index. A *free* index may be permuted: its units are exchangeable. A *fixed* one may not
(pixels, classes). Tying two indices says that whatever permutes one permutes the other. An index takes on structure when an
operation needs it: a *product* (a channel axis reshaped to heads × dimensions, row-major), or a *sum* (channels that were
concatenated, or that are split). In a product, the inner index may be permuted differently for every unit of the outer one:
it is an index *over* the outer one. Over a fixed index it is a *family* of unrelated indices, one per position. Tying and
structuring only ever take symmetry away, so whatever order the operations come in, what is left is sound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Literal

Form = Literal["free", "fixed", "same", "product", "sum", "family"]


class Index:
    """An index that runs over `size` units, and may be permuted differently for every unit of the indices it is `over`.

    `parts` holds the index this one is the same as, the factors of a product, the terms of a sum, or the members of a family
    over the fixed index `position`.
    """

    __slots__ = ("form", "over", "parts", "position", "size")

    def __init__(
        self,
        size: int,
        over: Iterable[Index] = (),
        form: Form = "free",
        parts: Sequence[Index] = (),
        position: Index | None = None,
    ) -> None:
        self.size, self.over, self.position = size, tuple(over), position
        self.form: Form = "fixed" if size == 1 else form
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.parts))
        return f"{self.form}({inside})" if self.parts else f"{self.form}({self.size})"

    def become(self, form: Form, parts: Sequence[Index] = (), position: Index | None = None) -> None:
        """Take on a form, everywhere this index is used."""
        self.form, self.parts, self.position, self.over = form, tuple(parts), position, ()


def fixed(size: int) -> Index:
    """Return an index that may not be permuted."""
    return Index(size, form="fixed")


def product(factors: Sequence[Index]) -> Index:
    """Return the row-major product of indices, the first one outermost."""
    return factors[0] if len(factors) == 1 else Index(prod(f.size for f in factors), form="product", parts=factors)


def concatenation(terms: Sequence[Index]) -> Index:
    """Return the sum of indices: one after another along an axis."""
    flat = [part for term in terms for part in (_root(term).parts if _root(term).form == "sum" else (term,))]
    return flat[0] if len(flat) == 1 else Index(sum(t.size for t in flat), form="sum", parts=flat)


def _root(index: Index) -> Index:
    while index.form == "same" or (index.form == "product" and len(index.parts) == 1):
        index = index.parts[0]
    return index


def factors(index: Index) -> list[Index]:
    """Return the irreducible factors of an index, outermost first; none of size 1."""
    index = _root(index)
    if index.size == 1:
        return []
    if index.form == "product":
        return [factor for part in index.parts for factor in factors(part)]
    if index.form in ("sum", "family") and all(is_fixed(part) for part in index.parts):
        index.become("fixed")
    return [index]


def is_fixed(index: Index) -> bool:
    """Return whether nothing of the index may be permuted."""
    return all(f.form == "fixed" for f in factors(index))


def contexts(index: Index) -> list[Index]:
    """Return the irreducible indices over which a factor is: those whose unit decides how it is permuted."""
    if index.form == "family":
        assert index.position is not None
        return [*factors(index.position), *(c for part in index.parts for f in factors(part) for c in contexts(f))]
    return [c for outer in index.over for c in factors(outer) if c.form != "sum"]


def fix(index: Index) -> None:
    """Forbid every permutation of the index."""
    for factor in factors(index):
        for part in factor.parts:
            fix(part)
        factor.become("fixed")


def forget(index: Index, outer: Index) -> None:
    """Permute the index in the same way for every unit of an outer index (a root)."""
    for factor in factors(index):
        if factor.form == "family" and factor.position is not None and _root(factor.position) is outer:
            first = factor.parts[0]
            for other in factor.parts[1:]:
                tie(first, other)
            factor.become("same", (first,))
            forget(first, outer)
        elif factor.parts:
            for part in factor.parts:
                forget(part, outer)
        else:
            factor.over = tuple(c for c in contexts(factor) if c is not outer)


def at(index: Index, position: Index, i: int) -> Index:
    """Return what the index is where a fixed index (a root) has the value i."""
    parts = factors(index)
    if len(parts) != 1:
        return product([at(part, position, i) for part in parts]) if parts else index
    (index,) = parts
    if not any(c is position for c in contexts(index)) and index.form != "sum":
        return index
    if index.form == "sum":
        return concatenation([at(part, position, i) for part in index.parts])
    if index.form == "family" and (own := index.position) is not None and _root(own) is not position:
        return Index(index.size, form="family", parts=[at(part, position, i) for part in index.parts], position=own)
    if index.form == "free":
        others = [c for c in contexts(index) if c is not position]
        members = [Index(index.size) for _ in range(position.size)]
        index.become("family", members, position)
        for j, member in enumerate(members):
            member.over = tuple(at(c, position, j) for c in others)
    return index.parts[i]


def split(index: Index, outer: int, inner: int) -> tuple[Index, Index]:
    """Return the index as a product of two: how a reshape of an axis to (outer, inner) reads it."""
    if index.form == "family" and index.position is not None:
        halves = [split_any(part, outer, inner) for part in index.parts]
        first, second = (Index(half[0].size, form="family", parts=half, position=index.position) for half in zip(*halves))
    elif index.form == "sum" and all(part.size % inner == 0 for part in index.parts):
        members: list[Index] = []
        for part in index.parts:
            block, unit = split_any(part, part.size // inner, inner)
            fix(block)
            members += [_at_flat(unit, block, i) for i in range(block.size)]
        first = fixed(outer)
        second = Index(inner, form="family", parts=members, position=first)
    elif index.form == "free":
        first = Index(outer, index.over)
        second = Index(inner, (*index.over, first))
    else:
        fix(index)
        first, second = fixed(outer), fixed(inner)
    index.become("product", (first, second))
    return first, second


def split_any(index: Index, outer: int, inner: int) -> tuple[Index, Index]:
    """Split an index of whatever form: `reshape` for one axis."""
    first, second = reshape([index], (outer, inner))
    return first, second


def _at_flat(index: Index, position: Index, i: int) -> Index:
    """As `at`, for a fixed index that may be a product: i counts row-major."""
    for factor in reversed(factors(position)):
        i, j = divmod(i, factor.size)
        index = at(index, factor, j)
    return index


def cut(index: Index, sizes: Sequence[int]) -> list[Index]:
    """Return the index in consecutive pieces of the given sizes, which add up to its own."""
    pieces = [size for size in sizes if size]
    if len(pieces) == 1:
        cuts = [index]
    elif len(parts := factors(index)) > 1:
        cuts = _cut_product(parts, pieces)
    else:
        cuts = _cut_factor(parts[0], pieces)
    remaining = iter(cuts)
    return [next(remaining) if size else fixed(0) for size in sizes]


def _cut_product(parts: list[Index], sizes: Sequence[int]) -> list[Index]:
    outer, inner = parts[0], product(parts[1:])
    if any(size % inner.size for size in sizes):
        fix(product(parts))
        return [fixed(size) for size in sizes]
    fix(outer)
    pieces, start = [], 0
    for count in (size // inner.size for size in sizes):
        pieces.append(_range(inner, outer, range(start, start + count)))
        start += count
    return pieces


def _range(inner: Index, outer: Index, positions: range) -> Index:
    """Return the product of some positions of a fixed outer index with the inner index there."""
    if len(positions) == 1:
        return at(inner, outer, positions[0])
    block = fixed(len(positions))
    there = [
        Index(f.size, form="family", parts=[at(f, outer, i) for i in positions], position=block)
        if any(c is outer for c in contexts(f)) or f.form == "sum"
        else f
        for f in factors(inner)
    ]
    return product([block, *there])


def _cut_factor(index: Index, sizes: Sequence[int]) -> list[Index]:
    if index.form == "family":
        rows = [cut(part, sizes) for part in index.parts]
        return [Index(c[0].size, form="family", parts=c, position=index.position) for c in zip(*rows)]
    if index.form == "sum":
        return _regroup(index, sizes)
    if index.form == "free":
        pieces = [Index(size, index.over) for size in sizes]
        index.become("sum", pieces)
        return pieces
    return [fixed(size) for size in sizes]


def _regroup(index: Index, sizes: Sequence[int]) -> list[Index]:
    """Cut a sum, through its terms where the cuts ask for it."""
    terms, pieces = list(index.parts), []
    finer: list[Index] = []
    for size in sizes:
        piece: list[Index] = []
        while size:
            if terms[0].size > size:
                terms[:1] = cut(terms[0], (size, terms[0].size - size))
            piece.append(terms.pop(0))
            size -= piece[-1].size
        pieces.append(concatenation(piece))
        finer += piece
    index.become("sum", finer)
    return pieces


def tie(x: Index, y: Index) -> None:
    """Let two indices of one size be permuted in the same way only."""
    a, b = factors(x), factors(y)
    while a and b:
        run_a, run_b = _shortest_equal_runs(a, b)
        _tie_runs(run_a, run_b)
        a = [f for rest in a[len(run_a) :] for f in factors(rest)]
        b = [f for rest in b[len(run_b) :] for f in factors(rest)]


def tie_all(pairs: Iterable[tuple[Index, Index]]) -> None:
    """Tie the indices of several axes, outer ones before those that are over them."""
    for x, y in sorted(pairs, key=lambda pair: min(_depth(pair[0]), _depth(pair[1]))):
        tie(x, y)


def _depth(index: Index) -> int:
    return max((len(contexts(f)) for f in factors(index)), default=0)


def _shortest_equal_runs(a: list[Index], b: list[Index]) -> tuple[list[Index], list[Index]]:
    """Return the shortest leading parts of two factor lists that have the same size."""
    i = j = 1
    while (size_a := prod(f.size for f in a[:i])) != (size_b := prod(f.size for f in b[:j])):
        i, j = (i + 1, j) if size_a < size_b else (i, j + 1)
    return a[:i], b[:j]


def _tie_runs(a: list[Index], b: list[Index]) -> None:
    if len(a) == 1 and len(b) == 1:
        return _tie_factors(a[0], b[0])
    if len(b) == 1:
        a, b = b, a
    if len(a) == 1 and a[0].form == "free":
        for factor in b:
            _keep(factor, [*contexts(a[0]), *b])
        return a[0].become("product", b)
    if len(a) == 1 and a[0].form == "sum":
        for part, piece in zip(a[0].parts, cut(product(b), [part.size for part in a[0].parts])):
            tie(part, piece)
        return None
    if a[0].size != b[0].size and max(a[0].size, b[0].size) % min(a[0].size, b[0].size) == 0:
        large, small = (a, b) if a[0].size > b[0].size else (b, a)
        split(large[0], small[0].size, large[0].size // small[0].size)
        return tie(product(a), product(b))
    return _fix_both(product(a), product(b))


def _fix_both(x: Index, y: Index) -> None:
    fix(x)
    fix(y)


def _keep(index: Index, allowed: Sequence[Index]) -> None:
    """Forget every context of a factor that is not among the allowed ones."""
    own = [_root(index.position)] if index.position is not None else contexts(index)
    for context in own:
        if not any(context is c for c in allowed):
            forget(index, context)
    index = _root(index)
    for i, part in enumerate(index.parts):
        here = [at(c, _root(index.position), i) for c in allowed] if index.position is not None else allowed
        for factor in factors(part):
            _keep(factor, [*here, *factors(part)])


def _tie_factors(x: Index, y: Index) -> None:
    if x is y:
        return None
    if "fixed" in (x.form, y.form):
        _fix_both(x, y)
        return y.become("same", (x,))
    for inner, outer in ((x, y), (y, x)):
        if any(c is outer for c in contexts(inner)):
            forget(inner, outer)
            return tie(x, y)
    if "family" in (x.form, y.form):
        return _tie_family(*((x, y) if x.form == "family" else (y, x)))
    if "sum" in (x.form, y.form):
        whole, other = (x, y) if x.form == "sum" else (y, x)
        for part, piece in zip(whole.parts, cut(other, [part.size for part in whole.parts])):
            tie(part, piece)
        return None
    common = [c for c in contexts(x) if any(c is d for d in contexts(y))]
    x.over = tuple(common)
    return y.become("same", (x,))


def _tie_family(family: Index, other: Index) -> None:
    """Tie member by member where the other index depends on the same position, all members with it where it does not."""
    assert family.position is not None
    position = _root(family.position)
    members = family.parts
    for i, member in enumerate(members):
        tie(member, at(other, position, i))


def reshape(axes: Sequence[Index], shape: Sequence[int]) -> list[Index]:
    """Return the indices of a row-major reshape."""
    remaining = [f for axis in axes for f in factors(axis)]
    result = []
    targets = list(shape)
    while targets:
        run = _take(remaining, targets)
        result += run
        targets = targets[len(run) :]
    return result


def _take(remaining: list[Index], targets: list[int]) -> list[Index]:
    """Take the factors of the next target axis off the list, or of several that only together make whole factors."""
    taken: list[Index] = []
    need = targets[0]
    while need > 1 and remaining:
        factor = remaining[0]
        if factor.size > need and factor.size % need == 0:
            remaining[:1] = split(factor, need, factor.size // need)
            remaining[:2] = [f for half in remaining[:2] for f in factors(half)]
            continue
        if need % factor.size:
            return _take_fixed(taken + remaining, remaining, targets)
        taken.append(remaining.pop(0))
        need //= factor.size
    return [product(taken) if taken else fixed(targets[0])]


def _take_fixed(factors_: list[Index], remaining: list[Index], targets: list[int]) -> list[Index]:
    """Fix the factors that no cut divides, and return fixed axes for as many targets as they fill."""
    i = j = 1
    while (have := prod(f.size for f in factors_[:i])) != (want := prod(targets[:j])):
        i, j = (i + 1, j) if have < want else (i, j + 1)
    for factor in factors_[:i]:
        fix(factor)
    del remaining[: i - (len(factors_) - len(remaining))]
    return [fixed(size) for size in targets[:j]]


def settle(axes: Sequence[Index]) -> None:
    """Forget the contexts that an array with these axes does not have, or has twice: it cannot tell their units apart."""
    _settle([f for axis in axes for f in factors(axis)])


def _settle(parts: Sequence[Index]) -> None:
    parts = [f for part in parts for f in factors(part)]
    for k, part in enumerate(parts):
        if part.form == "sum":
            for term in part.parts:
                _settle([*parts[:k], *factors(term), *parts[k + 1 :]])
            return None
    count = Counter(id(part) for part in parts)
    for part in parts:
        own = [_root(part.position)] if part.position is not None else contexts(part)
        if missing := [context for context in own if count[id(context)] != 1]:
            forget(part, missing[0])
            return _settle(parts)
    for position in [_root(part.position) for part in parts if part.position is not None]:
        for i in range(position.size):
            _settle([at(other, position, i) for other in parts if other is not position])
        return None
    return None
