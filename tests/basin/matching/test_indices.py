"""The algebra of indices: the symmetry that remains after tying, reshaping, cutting and concatenating."""

from __future__ import annotations

from harness_basin.matching.index_algebra.cutting import cut
from harness_basin.matching.index_algebra.indices import Index, concatenation, contexts, factors, fixed, is_fixed, product
from harness_basin.matching.index_algebra.positions import at
from harness_basin.matching.index_algebra.reshaping import reshape
from harness_basin.matching.index_algebra.tying import drop_ambiguous_contexts, tie, tie_all


def heads_and_dims(heads: int = 4, dims: int = 8) -> tuple[Index, Index, Index]:
    """Return an axis that is reshaped to heads × dimensions, and its two factors."""
    axis = Index(heads * dims)
    outer, inner = reshape([axis], (heads, dims))
    return axis, outer, inner


def same(x: Index, y: Index) -> bool:
    """Return whether two indices have the same factors."""
    return [id(f) for f in factors(x)] == [id(f) for f in factors(y)]


def test_tying_to_a_fixed_index() -> None:
    """The free index becomes fixed."""
    x = Index(6)
    tie(x, fixed(6))
    assert is_fixed(x)


def test_reshaped_axis() -> None:
    """It is a product whose inner factor is over the outer one."""
    axis, heads, dims = heads_and_dims()
    assert [f.size for f in factors(axis)] == [4, 8]
    assert contexts(factors(dims)[0]) == factors(heads)


def test_free_index_tied_to_a_product() -> None:
    """The free index becomes the same product."""
    axis, _, _ = heads_and_dims()
    columns = Index(32)
    tie(columns, axis)
    assert same(columns, axis)


def test_tying_two_products() -> None:
    """4 × 8 and 2 × 16 units become 2 × 2 × 8."""
    x, y = Index(32), Index(32)
    reshape([x], (4, 8))
    reshape([y], (2, 16))
    tie(x, y)
    assert [f.size for f in factors(x)] == [2, 2, 8]
    assert same(x, y)


def test_tying_two_products_without_common_structure() -> None:
    """4 × 6 and 6 × 4 units become fixed."""
    x, y = Index(24), Index(24)
    reshape([x], (4, 6))
    reshape([y], (6, 4))
    tie(x, y)
    assert is_fixed(x)
    assert is_fixed(y)


def test_reshape_across_rows() -> None:
    """(4, 6) reshaped to (3, 8) fixes both axes; the axis after them is unchanged."""
    rows, columns, after = Index(4), Index(6), Index(5)
    result = reshape([rows, columns, after], (3, 8, 5))
    assert [axis.size for axis in result] == [3, 8, 5]
    assert is_fixed(rows)
    assert is_fixed(columns)
    assert same(result[2], after)


def test_inner_index_tied_to_an_index_without_context() -> None:
    """The inner index is permuted in the same way for all outer units, as with a scale that all heads share."""
    _, _, dims = heads_and_dims()
    scale = Index(8)
    tie(dims, scale)
    assert contexts(factors(dims)[0]) == []


def test_tying_inner_and_outer_axes() -> None:
    """The outer axes are tied first, so that the inner index stays over the outer one."""
    _, heads, dims = heads_and_dims()
    _, other_heads, other_dims = heads_and_dims()
    tie_all([(dims, other_dims), (heads, other_heads)])
    assert contexts(factors(dims)[0]) == factors(heads)


def test_array_without_the_outer_axis() -> None:
    """The inner index becomes independent: a sum over heads requires equal permutations of their dimensions."""
    _, _, dims = heads_and_dims()
    drop_ambiguous_contexts([fixed(3), dims])
    assert contexts(factors(dims)[0]) == []


def test_array_with_the_outer_axis_twice() -> None:
    """The inner index becomes independent: it is not clear which outer axis it belongs to."""
    _, heads, dims = heads_and_dims()
    drop_ambiguous_contexts([heads, heads, dims])
    assert contexts(factors(dims)[0]) == []


def test_positions_of_a_fixed_index() -> None:
    """The index at each position is permuted on its own, as with queries, keys and values of one weight."""
    axis = Index(24)
    which, units = reshape([axis], (3, 8))
    tie(which, fixed(3))
    (position,) = factors(which)
    q, k, v = (at(units, position, i) for i in range(3))
    tie(q, k)
    assert same(q, k)
    assert not same(q, v)


def test_cut_between_concatenated_parts() -> None:
    """The pieces are the concatenated parts."""
    first, second = Index(3), Index(5)
    joined = concatenation([first, second])
    assert [same(*pair) for pair in zip(cut(joined, (3, 5)), (first, second))] == [True, True]


def test_cut_within_a_concatenated_part() -> None:
    """The part becomes a sum of its first two and its other three units."""
    first, second = Index(3), Index(5)
    cut(concatenation([first, second]), (5, 3))
    assert [part.size for part in factors(second)[0].parts] == [2, 3]


def test_tying_the_halves_of_an_axis() -> None:
    """The axis becomes a sum of two equal halves, as with gated units."""
    axis = Index(10)
    gate, gated = cut(axis, (5, 5))
    tie(gate, gated)
    assert same(*factors(axis)[0].parts)


def test_sum_tied_to_a_product() -> None:
    """The three parts become the members at three positions of a fixed index."""
    parts = [Index(8) for _ in range(3)]
    axis = Index(24)
    which, units = reshape([axis], (3, 8))
    tie(concatenation(parts), axis)
    (position,) = factors(which)
    assert [same(at(units, position, i), parts[i]) for i in range(3)] == [True] * 3


def test_reshaped_sum() -> None:
    """Three concatenated biases become (3, heads, dimensions), with the part index fixed."""
    parts = [Index(8) for _ in range(3)]
    which, heads, dims = reshape([concatenation(parts)], (3, 2, 4))
    (position,) = factors(which)
    assert is_fixed(which)
    assert same(parts[1], product([at(heads, position, 1), at(dims, position, 1)]))
