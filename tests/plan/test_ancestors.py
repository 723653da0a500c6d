"""The search for ancestors in a graph."""

from __future__ import annotations

from harness.plan.ancestors import ancestors

PARENTS = {"member": ["fork", "teacher"], "fork": ["trunk"], "teacher": ["trunk"], "trunk": [], "other": ["trunk"]}


def test_ancestor_on_two_paths() -> None:
    """The search yields the roots first, and each of their ancestors once."""
    found = list(ancestors(["member"], PARENTS.__getitem__))
    assert sorted(found) == ["fork", "member", "teacher", "trunk"]
    assert found[0] == "member"


def test_two_searches_that_share_a_set() -> None:
    """The second search leaves out what the first one has visited."""
    seen: set[str] = set()
    list(ancestors(["member"], PARENTS.__getitem__, seen))
    assert list(ancestors(["other"], PARENTS.__getitem__, seen)) == ["other"]


def test_node_without_parents() -> None:
    """The search ends there."""
    assert list(ancestors(["fork"], lambda node: [])) == ["fork"]


def test_long_chain() -> None:
    """A chain longer than Python's recursion limit is searched."""
    assert list(ancestors([100_000], lambda number: range(max(number - 1, 0), number))) == list(range(100_000, -1, -1))
