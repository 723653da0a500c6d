"""The search over graphs."""

from __future__ import annotations

from harness.plan.ancestors import ancestors

PARENTS = {"member": ["fork", "teacher"], "fork": ["trunk"], "teacher": ["trunk"], "trunk": [], "other": ["trunk"]}


def test_every_ancestor_comes_once() -> None:
    """The roots and all that they depend on, though two paths lead to the trunk."""
    found = list(ancestors(["member"], PARENTS.__getitem__))
    assert sorted(found) == ["fork", "member", "teacher", "trunk"]
    assert found[0] == "member"


def test_shared_search_visits_nothing_twice() -> None:
    """What an earlier search has seen is left out."""
    seen: set[str] = set()
    list(ancestors(["member"], PARENTS.__getitem__, seen))
    assert list(ancestors(["other"], PARENTS.__getitem__, seen)) == ["other"]


def test_parents_may_end_the_search() -> None:
    """A node whose parents are left out is the last of its branch."""
    assert list(ancestors(["fork"], lambda node: [])) == ["fork"]


def test_long_chain_does_not_recurse() -> None:
    """A training of very many checkpoints is searched without Python's recursion limit."""
    assert len(list(ancestors([100_000], lambda number: [number - 1] if number else []))) == 100_001
