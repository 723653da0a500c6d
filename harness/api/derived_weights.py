"""Handles of derived weights: what a derivation, such as an average or an alignment, computes from other weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from harness.api.derivation import Derivation
from harness.api.scalars import integer, number, stream_name
from harness.api.setting import Setting
from harness.api.specs import DerivationSpec, DerivedSpec, WeightsLocation
from harness.api.task import FORMAT, key_of
from harness.api.trajectory import Trajectory, Weights
from harness.streams import Name


@dataclass(frozen=True, eq=False)
class DerivedWeights(Weights):
    """One output of a derivation: weights computed from `parents`. Create it with `Cell.derive`.

    Raise `ValueError` if the derivation declares no valid cost.
    """

    has_optimizer_state: ClassVar[bool] = False

    derivation: Derivation
    parents: tuple[Weights, ...]
    stream: Name
    output: int = 0
    cost: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", stream_name(self.stream))
        object.__setattr__(self, "output", integer(self.output, "output"))
        derivation = self.derivation
        object.__setattr__(self, "cost", number(derivation.epochs, f"derivation '{derivation.full_name}': epochs"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The first parent's setting."""
        return self.parents[0].setting

    @cached_property
    def epoch(self) -> int:  # type: ignore[override]
        """The largest epoch of the parents."""
        return max(parent.epoch for parent in self.parents)

    @property
    def origin(self) -> Trajectory:  # type: ignore[override]
        """The first parent's."""
        return self.parents[0].origin

    @cached_property
    def task_spec(self) -> DerivationSpec:
        """Everything that the outputs of the derivation are a function of."""
        return DerivationSpec(
            format=FORMAT,
            setting=self.setting.key,
            derivation=self.derivation.identity,
            parents=tuple(parent.key for parent in self.parents),
            stream=self.stream,
        )

    @cached_property
    def task_key(self) -> str:
        """The key of the object that holds all outputs of the derivation."""
        return key_of(self.task_spec.to_json())

    @property
    def spec(self) -> DerivedSpec:
        """The key of the derivation's object, and the index of the output."""
        return DerivedSpec(task=self.task_key, output=self.output)

    @cached_property
    def location(self) -> WeightsLocation:
        """One part of the derivation's object per output."""
        return WeightsLocation(object=self.task_key, part=f"weights-{self.output}")
