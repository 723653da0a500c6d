"""The search for ancestors in a graph."""

from __future__ import annotations

import graphlib
import random

from harness.plan.ancestors import ancestors, parents_first

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


def test_parents_come_first() -> None:
    """Every node stands once, after its parents."""
    order = parents_first(PARENTS)
    assert sorted(order) == sorted(PARENTS)
    for node, parents in PARENTS.items():
        assert all(order.index(parent) < order.index(node) for parent in parents)


def test_order_is_that_of_the_standard_library() -> None:
    """Keys of tasks and their order in a plan do not depend on who sorts, also for parents that are named twice."""
    draw = random.Random(0)
    for _ in range(200):
        parents = {node: draw.choices(range(node), k=draw.randrange(4)) if node else [] for node in range(30)}
        shuffled = draw.sample(sorted(parents), 20)
        graph = {node: parents[node] for node in shuffled}
        assert parents_first(graph) == list(graphlib.TopologicalSorter(graph).static_order())
