"""A cell of a benchmark: the input of an ensemble builder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.api.interfaces import Derivation, Objective
from harness.api.recipe import Recipe
from harness.api.scalars import integer
from harness.api.schedules import Schedule
from harness.api.setting import Setting
from harness.api.trajectory import DerivedWeights, Trajectory, Weights
from harness.streams import Name


@dataclass(frozen=True, eq=False)
class Cell:
    """One dataset × architecture × method × seed. A builder returns the ensemble of a cell.

    `setting` is the data set, the architecture and the recipe. `objective` is the benchmark's. `seed` is one of the
    benchmark's seeds. `size` is M, the number of members.
    """

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

    def trajectory(
        self,
        member: int,
        objective: Objective | None = None,
        teacher: Weights | None = None,
        *,
        schedule: Schedule | None = None,
        recipe: Recipe | None = None,
    ) -> Trajectory:
        """Return the handle of a training from initialization; nothing is trained by this call.

        `member` is an index from 0. Each member has its own initialization and its own order of batches, which depend
        on the seed and the index only. `objective` defaults to the benchmark's. `teacher` is a handle of the teacher's
        weights; give it if and only if the objective needs one, else `ValueError` is raised. `schedule` replaces the recipe's
        warm-up and cosine, and may run beyond T (`harness.schedules`). `recipe` replaces the cell's for this member, as in
        `cell.recipe.replace(weight_decay=5e-4)`; the normalization must stay.

        Equal calls return equal handles in all methods, so methods share trainings:
        `cell.trajectory(member=0).at(cell.epochs)` is the first member of the deep ensemble in each of them.
        """
        member = integer(member, "member")
        return Trajectory(
            self.setting if recipe is None else self.setting.with_recipe(recipe),
            self.objective if objective is None else objective,
            order=("order", self.seed, member),
            init=("init", self.seed, member),
            teacher=teacher,
            schedule=schedule,
        )

    def derive(self, derivation: Derivation, parents: Sequence[Weights], name: str | int = "") -> tuple[DerivedWeights, ...]:
        """Return the handles of weights that a derivation computes from `parents`, one per output of the derivation.

        The derivation's random stream depends on its registered name, the seed and `name`. Give different names to
        calls with equal derivations and parents that must draw different numbers.
        """
        stream: Name = (derivation.name, self.seed, name)
        sources = tuple(parents)
        outputs = range(derivation.outputs)
        return tuple(DerivedWeights(derivation, sources, stream, output) for output in outputs)
