"""A cell of a benchmark, as an ensemble builder sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.api.interfaces import Derivation, Objective
from harness.api.recipe import Recipe
from harness.api.scalars import integer
from harness.api.setting import Setting
from harness.api.trajectory import DerivedWeights, Trajectory, Weights
from harness.streams import Name


@dataclass(frozen=True, eq=False)
class Cell:
    """One dataset × architecture × method × seed, as an ensemble builder sees it."""

    setting: Setting
    objective: Objective
    seed: int
    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer(self.seed, "seed"))
        object.__setattr__(self, "size", integer(self.size, "size"))

    @property
    def epochs(self) -> int:
        """T, the epochs of one training."""
        return self.setting.recipe.epochs

    @property
    def recipe(self) -> Recipe:
        """The recipe of this data set and architecture."""
        return self.setting.recipe

    def trajectory(self, member: int, objective: Objective | None = None, teacher: Weights | None = None) -> Trajectory:
        """Return member j's training from its own initialization, with its own order of batches.

        `objective` is the benchmark's unless another is given; `teacher` is what it learns from, if it needs one.

        Equal calls return equal handles, whichever method makes them. Methods share training in this way.
        """
        member = integer(member, "member")
        return Trajectory(
            self.setting,
            self.objective if objective is None else objective,
            order=("order", self.seed, member),
            init=("init", self.seed, member),
            teacher=teacher,
        )

    def derive(self, derivation: Derivation, parents: Sequence[Weights], name: str | int = "") -> tuple[DerivedWeights, ...]:
        """Return the handles of weights derived from others.

        `name` distinguishes the random streams of derivations that are otherwise equal.
        """
        stream: Name = (derivation.name, self.seed, name)
        sources = tuple(parents)
        return tuple(DerivedWeights(derivation, sources, stream, output) for output in range(derivation.outputs))
