"""The algebra of indices: what tying, splitting and cutting leave of a symmetry."""

from __future__ import annotations

from harness_basin.matching.cutting import cut
from harness_basin.matching.indices import Index, concatenation, contexts, factors, fixed, is_fixed, product
from harness_basin.matching.positions import at
from harness_basin.matching.reshaping import reshape
from harness_basin.matching.tying import drop_ambiguous_contexts, tie, tie_all


def heads_and_dims(heads: int = 4, dims: int = 8) -> tuple[Index, Index, Index]:
    """Return an axis that was reshaped to heads × dimensions, and the two."""
    axis = Index(heads * dims)
    outer, inner = reshape([axis], (heads, dims))
    return axis, outer, inner


def same(x: Index, y: Index) -> bool:
    """Return whether two indices have the same factors."""
    return [id(f) for f in factors(x)] == [id(f) for f in factors(y)]


def test_tying_with_something_fixed_fixes() -> None:
    """What is added to pixels is in the order of pixels."""
    x = Index(6)
    tie(x, fixed(6))
    assert is_fixed(x)


def test_reshaped_axis_is_a_product() -> None:
    """The inner index may differ from unit to unit of the outer one."""
    axis, heads, dims = heads_and_dims()
    assert [f.size for f in factors(axis)] == [4, 8]
    assert contexts(factors(dims)[0]) == factors(heads)


def test_tying_gives_structure_to_the_other() -> None:
    """The columns of the layer after attention are heads × dimensions, too."""
    axis, _, _ = heads_and_dims()
    columns = Index(32)
    tie(columns, axis)
    assert same(columns, axis)


def test_tying_two_products_aligns_them() -> None:
    """32 units as 4 × 8 and as 2 × 16 are 2 × 2 × 8."""
    x, y = Index(32), Index(32)
    reshape([x], (4, 8))
    reshape([y], (2, 16))
    tie(x, y)
    assert [f.size for f in factors(x)] == [2, 2, 8]
    assert same(x, y)


def test_misaligned_products_are_fixed() -> None:
    """Blocks of 4 and of 6 have no common structure."""
    x, y = Index(24), Index(24)
    reshape([x], (4, 6))
    reshape([y], (6, 4))
    tie(x, y)
    assert is_fixed(x)
    assert is_fixed(y)


def test_misaligned_reshape_is_fixed() -> None:
    """(4, 6) read as (3, 8) mixes rows; what comes after is not touched."""
    rows, columns, after = Index(4), Index(6), Index(5)
    result = reshape([rows, columns, after], (3, 8, 5))
    assert [axis.size for axis in result] == [3, 8, 5]
    assert is_fixed(rows)
    assert is_fixed(columns)
    assert same(result[2], after)


def test_index_that_does_not_depend_on_the_outer_one() -> None:
    """A scale that all heads share makes them permute their dimensions alike."""
    _, _, dims = heads_and_dims()
    scale = Index(8)
    tie(dims, scale)
    assert contexts(factors(dims)[0]) == []


def test_outer_axes_are_tied_first() -> None:
    """Dimensions stay dependent on heads, also where their axis comes first."""
    _, heads, dims = heads_and_dims()
    _, other_heads, other_dims = heads_and_dims()
    tie_all([(dims, other_dims), (heads, other_heads)])
    assert contexts(factors(dims)[0]) == factors(heads)


def test_array_without_the_outer_axis() -> None:
    """A sum over heads mixes dimensions that differently permuted heads would have at different places."""
    _, _, dims = heads_and_dims()
    drop_ambiguous_contexts([fixed(3), dims])
    assert contexts(factors(dims)[0]) == []


def test_array_with_the_outer_axis_twice() -> None:
    """Head against head: it cannot be said whose dimensions they are."""
    _, heads, dims = heads_and_dims()
    drop_ambiguous_contexts([heads, heads, dims])
    assert contexts(factors(dims)[0]) == []


def test_positions_of_a_fixed_index_are_unrelated() -> None:
    """Queries, keys and values of one weight are permuted each in its own way, and a tie of two is no tie of the third."""
    axis = Index(24)
    which, units = reshape([axis], (3, 8))
    tie(which, fixed(3))
    (position,) = factors(which)
    q, k, v = (at(units, position, i) for i in range(3))
    tie(q, k)
    assert same(q, k)
    assert not same(q, v)


def test_concatenated_axis_is_cut_where_it_was_joined() -> None:
    """A slice of a concatenation is the part that was put there."""
    first, second = Index(3), Index(5)
    joined = concatenation([first, second])
    assert [same(*pair) for pair in zip(cut(joined, (3, 5)), (first, second))] == [True, True]


def test_cut_elsewhere_divides_a_part() -> None:
    """Two units of the second part are told apart from its other three, in the part itself."""
    first, second = Index(3), Index(5)
    cut(concatenation([first, second]), (5, 3))
    assert [part.size for part in factors(second)[0].parts] == [2, 3]


def test_halves_of_a_cut_may_be_tied() -> None:
    """A gate permutes with what it gates."""
    axis = Index(10)
    gate, gated = cut(axis, (5, 5))
    tie(gate, gated)
    assert same(*factors(axis)[0].parts)


def test_sum_tied_to_a_product() -> None:
    """Three equal parts are three positions of a fixed index."""
    parts = [Index(8) for _ in range(3)]
    axis = Index(24)
    which, units = reshape([axis], (3, 8))
    tie(concatenation(parts), axis)
    (position,) = factors(which)
    assert [same(at(units, position, i), parts[i]) for i in range(3)] == [True] * 3


def test_sum_reshaped_to_parts() -> None:
    """A bias that was concatenated of three is read as (3, heads, dimensions)."""
    parts = [Index(8) for _ in range(3)]
    which, heads, dims = reshape([concatenation(parts)], (3, 2, 4))
    (position,) = factors(which)
    assert is_fixed(which)
    assert same(parts[1], product([at(heads, position, 1), at(dims, position, 1)]))
