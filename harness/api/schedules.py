"""Learning rate schedules as values: what a trajectory may follow instead of its recipe's warm-up and cosine.

A schedule is a function of the epochs since it began, and is evaluated at every step. It is part of the trajectory's key.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from harness.api.options import Options, options_json
from harness.api.recipe import Recipe, warmup_cosine

_Rate = Annotated[float, Field(ge=0)]
_Length = Annotated[int, Field(ge=1)]


class Schedule(Options):
    """A learning rate schedule. `at(epoch)` is the rate at a time in epochs since the schedule began."""

    @abstractmethod
    def at(self, epoch: float) -> float:
        """Return the learning rate at a time, in epochs from 0."""

    @property
    def length(self) -> int | None:
        """The epochs after which the schedule ends; None if it goes on without end."""
        return None


class Constant(Schedule):
    """The same rate at every step."""

    kind: Literal["constant"] = "constant"
    rate: _Rate

    def at(self, epoch: float) -> float:
        """Return the constant."""
        return self.rate


class WarmupCosine(Schedule):
    """A linear warm-up from 0 to `peak`, then a cosine down to `end`: the shape of a recipe's schedule.

    `warmup` is the share of `epochs` that the warm-up takes. Without it this is one cycle of a snapshot ensemble (Huang et al.
    2017, equation 2).
    """

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    peak: _Rate
    epochs: _Length
    warmup: float = Field(0.0, ge=0, lt=1)
    end: _Rate = 0.0

    @classmethod
    def of(cls, recipe: Recipe, epochs: int) -> WarmupCosine:
        """Return the recipe's schedule, fitted into another number of epochs."""
        return cls(peak=recipe.learning_rate, epochs=epochs, warmup=recipe.warmup)

    def at(self, epoch: float) -> float:
        """Return peak · epoch / rise during the warm-up, then end + (peak - end) / 2 · (1 + cos(π · share of the rest))."""
        return warmup_cosine(epoch, self.peak, self.epochs, self.warmup, self.end)

    @property
    def length(self) -> int:
        """The epochs of warm-up and cosine together."""
        return self.epochs


class Linear(Schedule):
    """A straight line from `start` to `end` over `epochs`."""

    kind: Literal["linear"] = "linear"
    start: _Rate
    end: _Rate
    epochs: _Length

    def at(self, epoch: float) -> float:
        """Return start + (end - start) · epoch / epochs."""
        return self.start + (self.end - self.start) * epoch / self.epochs

    @property
    def length(self) -> int:
        """The epochs of the line."""
        return self.epochs


class CyclicCosine(Schedule):
    """A cosine from `peak` to `end` that starts again after every `cycle` epochs, without end (Huang et al. 2017)."""

    kind: Literal["cyclic_cosine"] = "cyclic_cosine"
    peak: _Rate
    cycle: _Length
    end: _Rate = 0.0

    def at(self, epoch: float) -> float:
        """Return end + (peak - end) / 2 · (1 + cos(π · share of the cycle))."""
        return warmup_cosine(epoch % self.cycle, self.peak, self.cycle, 0.0, self.end)


class Triangular(Schedule):
    """A line from `high` down to `low` in the first half of a cycle and back up in the second, without end.

    The learning rate of fast geometric ensembles (Garipov et al. 2018, section 4): members are the weights at mid-cycle, so
    `cycle` is even.
    """

    kind: Literal["triangular"] = "triangular"
    high: _Rate
    low: _Rate
    cycle: int = Field(ge=2, multiple_of=2)

    @model_validator(mode="after")
    def _is_high(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must not be above high")
        return self

    def at(self, epoch: float) -> float:
        """Return high - (high - low) · distance from the ends of the cycle, relative to its half."""
        share = (epoch % self.cycle) / self.cycle
        depth = 2 * min(share, 1 - share)
        return self.high - (self.high - self.low) * depth


AnySchedule: TypeAlias = Annotated[Constant | WarmupCosine | Linear | CyclicCosine | Triangular, Field(discriminator="kind")]


@lru_cache(maxsize=1024)
def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the JSON that goes into keys. Do not change what is returned: it is shared."""
    return options_json(schedule)


_ADAPTER: TypeAdapter[AnySchedule] = TypeAdapter(AnySchedule)


def schedule_from_json(value: Any) -> Schedule:
    """Return the schedule that a trajectory's spec describes; raise `ValueError` if it describes none."""
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"no schedule: {error.errors()[0]['msg']}") from None
