"""Search in graphs of tasks and handles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def ancestors(
    roots: Iterable[Node], parents: Callable[[Node], Iterable[Node]], seen: set[Node] | None = None
) -> Iterator[Node]:
    """Yield the roots and all their ancestors, each node once, in depth-first order.

    `parents` returns the nodes that a node depends on; it may omit some to limit the search. Nodes in `seen` are skipped,
    and visited nodes are added to it. Several searches with the same `seen` visit every node once.
    """
    visited = set() if seen is None else seen
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in visited:
            continue
        visited.add(node)
        yield node
        stack.extend(parents(node))


def parents_first(parents: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Return the nodes of a graph without cycles, each after its parents (Kahn 1962).

    The order is that of `graphlib.TopologicalSorter`, without its search for cycles, which takes as long as the rest.
    """
    waiting: dict[Node, int] = {}  # the number of parents that are not in the order yet
    children: dict[Node, list[Node]] = defaultdict(list)
    for node, own in parents.items():
        waiting[node] = len(own)
        for parent in own:
            waiting.setdefault(parent, 0)
            children[parent].append(node)
    order = [node for node, count in waiting.items() if count == 0]
    for node in order:  # grows
        for child in children.get(node, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    return order
