"""A handle of published weights, for which tasks can be made without the method that they came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.api.setting import Setting
from harness.api.specs import WeightsLocation
from harness.api.trajectory import Trajectory, Weights


@dataclass(frozen=True, eq=False)
class StoredWeights(Weights):
    """The weights of a published member in a store, in an object of the member's key. Nothing is trained for it."""

    setting: Setting
    member: str
    epoch: int = 0

    @cached_property
    def key(self) -> str:
        """The member's key, which was computed where it was trained."""
        return self.member

    @property
    def spec(self) -> WeightsLocation:
        """Where the weights lie; what they are a function of is unknown here."""
        return self.location

    @property
    def origin(self) -> Trajectory:  # type: ignore[override]
        """Published weights have no trajectory."""
        raise ValueError("published weights cannot be trained further here")

    @property
    def location(self) -> WeightsLocation:
        """One object per member."""
        return WeightsLocation(object=self.member, part="weights")
