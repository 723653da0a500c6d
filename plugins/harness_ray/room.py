"""How many actors fit into a Ray cluster, and words for what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = ("CPU", "GPU")


def room_for(demands: Mapping[str, float], nodes: Sequence[Mapping[str, Any]]) -> int:
    """Return how many actors with some demands the nodes can hold when nothing else runs there."""
    room = 0
    for node in nodes:
        if node["Alive"]:
            fits = [int(node["Resources"].get(name, 0) / amount + 1e-9) for name, amount in demands.items()]
            room += min(fits, default=1)
    return room


def describe_demands(demands: Mapping[str, float]) -> str:
    """Return the demands of an actor, such as `1 CPU, 1 GPU`."""
    return ", ".join(f"{amount:g} {name}" for name, amount in demands.items()) or "no demands"


def describe_nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of nodes and their resources, such as `2 nodes, 8 CPU, 2 GPU`."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    totals = {name: sum(resources.get(name, 0) for resources in alive) for name in _SHOWN}
    amounts = [f"{amount:g} {name}" for name, amount in totals.items()]
    return ", ".join([f"{len(alive)} node{'' if len(alive) == 1 else 's'}", *amounts])
