"""The interface of a store for the planner."""

from __future__ import annotations

from typing import Protocol


class StoreView(Protocol):
    """A store that can be asked which objects it contains."""

    def has(self, key: str) -> bool:
        """Return whether an object is stored."""
        ...

    def epochs(self, trajectory: str) -> dict[int, str]:
        """Return the stored epochs of a trajectory, each with the key of the checkpoint's object."""
        ...
