"""Search in graphs of tasks and handles."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
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
