"""The one search over graphs of tasks and handles."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def ancestors(
    roots: Iterable[Node], parents: Callable[[Node], Iterable[Node]], seen: set[Node] | None = None
) -> Iterator[Node]:
    """Yield the roots and everything that they depend on, each node once.

    `parents` may leave out nodes to end the search there. Nodes in `seen` are skipped, and visited ones are added to it: that
    way, several searches that share it visit every node once.
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
