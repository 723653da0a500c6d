"""Points of trainings as parts of stored objects: `weights` and `optimizer-momentum`, of member 2 `weights-2` and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.networks.flat_network import StateDict
from harness.training.point import Point

_WEIGHTS, _OPTIMIZER = "weights", "optimizer"


def weights_part(member: int | None = None) -> str:
    """Return the name of the part with the weights of a network, of a member if there are several."""
    return _WEIGHTS if member is None else f"{_WEIGHTS}-{member}"


def parts_of(point: Point, member: int | None = None) -> dict[str, StateDict]:
    """Return a point's weights, optimizer state and moments as parts of an object."""
    part = weights_part(member)
    parts = {part: point.weights}
    for name, state in point.memory.items():
        parts[_prefix(part) + name] = state
    return {**parts, **point.moments}


def optimizer_parts(names: Iterable[str], part: str) -> list[str]:
    """Return those names of parts that hold the optimizer state which belongs to some weights, given by their part."""
    return [name for name in names if name.startswith(_prefix(part))]


def optimizer_state(parts: Mapping[str, StateDict], part: str) -> dict[str, StateDict]:
    """Return the parts with the optimizer state that belongs to some weights, by name without the prefix."""
    return {name.removeprefix(_prefix(part)): parts[name] for name in optimizer_parts(parts, part)}


def optimizer_steps(meta: Mapping[str, Any], part: str) -> int:
    """Return the steps since the optimizer's memory was empty, from the metadata of the object with the weights."""
    if part == _WEIGHTS:
        return int(meta["optimizer_steps"])
    return int(meta["members"][int(part.removeprefix(f"{_WEIGHTS}-"))]["optimizer_steps"])


def _prefix(part: str) -> str:
    return f"{_OPTIMIZER}{part.removeprefix(_WEIGHTS)}-"
