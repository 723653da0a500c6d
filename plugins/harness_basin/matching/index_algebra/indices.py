"""Indices of array axes, in the sense of Einstein's notation. This module knows nothing of networks or operations.

Every axis of an array has an index. An index has one of these forms:

- *free*: its units are exchangeable, so it may be permuted.
- *fixed*: its units have an order or a meaning (pixels, classes), so it may not be permuted.
- *same*: it is equal to another index. Tied indices are permuted in the same way.
- *product*: a row-major product of factors, such as an axis that is reshaped to heads × dimensions.
- *sum*: terms in a row along the axis, such as channels that are concatenated or split.
- *family*: a tuple of unrelated indices of one size, one per position of a fixed index.

An index is *over* other indices if each of their units may permute it differently. In a product, the inner factor starts out
over the outer factor. Tying and structuring only remove symmetry. The result is therefore sound for every order of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Literal

Form = Literal["free", "fixed", "same", "product", "sum", "family"]


class Index:
    """An index of `size` units. Indices are compared by identity.

    `over` holds the indices whose unit decides how this index is permuted. `parts` holds the index that this one is the same
    as, the factors of a product, the terms of a sum, or the members of a family. `position` is the fixed index of a family.
    An index of size 1 is fixed.
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
        self.size = size
        self.over = tuple(over)
        self.position = position
        self.form: Form = form
        if size == 1:
            self.form = "fixed"
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        if not self.parts:
            return f"{self.form}({self.size})"
        inside = ", ".join(map(repr, self.parts))
        return f"{self.form}({inside})"

    def become(self, form: Form, parts: Sequence[Index] = (), position: Index | None = None) -> None:
        """Change the form in place, for every array that uses this index."""
        self.form = form
        self.parts = tuple(parts)
        self.position = position
        self.over = ()


def fixed(size: int) -> Index:
    """Return an index that may not be permuted."""
    return Index(size, form="fixed")


def fixed_axes(shape: Iterable[int]) -> list[Index]:
    """Return one fixed index per axis of a shape."""
    return [fixed(size) for size in shape]


def product(factors: Sequence[Index]) -> Index:
    """Return the row-major product of indices, outermost first."""
    if len(factors) == 1:
        return factors[0]
    return Index(prod(sizes(factors)), form="product", parts=factors)


def concatenation(terms: Sequence[Index]) -> Index:
    """Return the sum of indices that follow one another along an axis. Sums among the terms are flattened."""
    flat: list[Index] = []
    for term in terms:
        resolved = root(term)
        if resolved.form == "sum":
            flat += resolved.parts
        else:
            flat.append(term)
    if len(flat) == 1:
        return flat[0]
    return Index(sum(sizes(flat)), form="sum", parts=flat)


def family(members: Sequence[Index], position: Index | None) -> Index:
    """Return the index that equals `members[i]` at position i of a fixed index. All members have one size."""
    return Index(members[0].size, form="family", parts=members, position=position)


def sizes(indices: Iterable[Index]) -> list[int]:
    """Return the sizes of indices."""
    return [index.size for index in indices]


def without(indices: Iterable[Index], excluded: Index) -> list[Index]:
    """Return all indices but one."""
    return [index for index in indices if index is not excluded]


def root(index: Index) -> Index:
    """Return the index at the end of a chain of *same* indices and products of one factor."""
    while index.form == "same" or (index.form == "product" and len(index.parts) == 1):
        index = index.parts[0]
    return index


def factors(index: Index) -> list[Index]:
    """Return the irreducible factors of an index, outermost first, without those of size 1."""
    index = root(index)
    if index.size == 1:
        return []
    if index.form == "product":
        return all_factors(index.parts)
    if index.form in ("sum", "family") and all(is_fixed(part) for part in index.parts):
        index.become("fixed")
    return [index]


def all_factors(indices: Iterable[Index]) -> list[Index]:
    """Return the irreducible factors of several indices, in order."""
    found: list[Index] = []
    for index in indices:
        found += factors(index)
    return found


def is_fixed(index: Index) -> bool:
    """Return whether no permutation of the index is allowed."""
    return all(factor.form == "fixed" for factor in factors(index))


def contexts(index: Index) -> list[Index]:
    """Return the irreducible indices that a factor is over. For a family, these include its position."""
    if index.form == "family":
        assert index.position is not None
        found = factors(index.position)
        for factor in all_factors(index.parts):
            found += contexts(factor)
        return found
    return [outer for outer in all_factors(index.over) if outer.form != "sum"]


def own_contexts(index: Index) -> list[Index]:
    """Return the position of a family, without the contexts of its members; for other forms, all contexts."""
    if index.position is not None:
        return [root(index.position)]
    return contexts(index)


def fix(index: Index) -> None:
    """Forbid every permutation of the index."""
    for factor in factors(index):
        for part in factor.parts:
            fix(part)
        factor.become("fixed")


def equal_prefixes(a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """Return the lengths of the shortest nonempty prefixes of two sequences of sizes that have the same product."""
    length_a = 1
    length_b = 1
    product_a = a[0]
    product_b = b[0]
    while product_a != product_b:
        if product_a < product_b:
            product_a *= a[length_a]
            length_a += 1
        else:
            product_b *= b[length_b]
            length_b += 1
    return length_a, length_b
