"""What the planner asks of a store."""

from __future__ import annotations

from typing import Protocol


class StoreView(Protocol):
    """Which objects, and which epochs of a trajectory, are stored."""

    def has(self, key: str) -> bool: ...
    def epochs(self, trajectory: str) -> dict[int, str]: ...
