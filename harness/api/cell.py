"""A cell of a benchmark: the input of an ensemble builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.api.coupling import Coupling
from harness.api.derivation import Derivation
from harness.api.derived_weights import DerivedWeights
from harness.api.interfaces import Objective
from harness.api.joint_trajectory import JointTrajectory
from harness.api.moments import Moments
from harness.api.recipe import Recipe
from harness.api.scalars import integer
from harness.api.schedules import Schedule
from harness.api.setting import Setting
from harness.api.trajectory import Trajectory, Weights
from harness.streams import Name

MembersOf = Callable[["Cell", str, Mapping[str, Any]], tuple[Weights, ...]]
"""Cell, registered name of a method and its options → members."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One dataset × architecture × method × seed. A builder returns the ensemble of a cell.

    `setting` is the data set, the architecture and the recipe. `objective` is the benchmark's. `seed` is one of the
    benchmark's seeds. `size` is M, the number of members.

    `members_of` and `asked` are the planner's, for `build`: how another method's members are found, and which methods ask for
    this cell's members, the outermost first. `trajectories` are the trainings without changes by the key of their setting, seed
    and member: the cells of a benchmark share them, so that equal trainings of many methods are one value.
    """

    setting: Setting
    objective: Objective
    seed: int
    size: int
    members_of: MembersOf | None = None
    asked: tuple[str, ...] = ()
    trajectories: dict[tuple[str, int, int], Trajectory] = field(default_factory=dict, repr=False)

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
        moments: Moments | None = None,
    ) -> Trajectory:
        """Return the handle of a training from initialization; nothing is trained by this call.

        `member` is an index from 0. Each member has its own initialization and its own order of batches, which depend
        on the seed and the index only. `objective` defaults to the benchmark's. `teacher` is a handle of the teacher's
        weights; give it if and only if the objective needs one, else `ValueError` is raised. `schedule` replaces the recipe's
        warm-up and cosine, and may run beyond T (`harness.schedules`). `recipe` replaces the cell's for this member, as in
        `cell.recipe.replace(weight_decay=5e-4)`; the normalization must stay. `moments` are collected during the training.

        Equal calls return equal handles in all methods, so methods share trainings:
        `cell.trajectory(member=0).at(cell.epochs)` is the first member of the deep ensemble in each of them.
        """
        member = integer(member, "member")
        if all(change is None for change in (objective, teacher, schedule, recipe, moments)):
            key = (self.setting.key, self.seed, member)
            if key not in self.trajectories:
                self.trajectories[key] = self._trajectory(member)
            return self.trajectories[key]
        return self._trajectory(member, objective, teacher, schedule, recipe, moments)

    def _trajectory(
        self,
        member: int,
        objective: Objective | None = None,
        teacher: Weights | None = None,
        schedule: Schedule | None = None,
        recipe: Recipe | None = None,
        moments: Moments | None = None,
    ) -> Trajectory:
        return Trajectory(
            self.setting if recipe is None else self.setting.with_recipe(recipe),
            self.objective if objective is None else objective,
            order=("order", self.seed, member),
            init=("init", self.seed, member),
            teacher=teacher,
            schedule=schedule,
            moments=moments,
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

    def couple(self, members: Sequence[Trajectory], coupling: Coupling, name: str | int = "") -> JointTrajectory:
        """Return the handle of trainings that take their steps at the same time, tied by a coupling.

        `members` are the trainings as they would be without it. It begins at the latest of their start epochs: forks of one
        trunk are tied from the fork on. The handle's `at(epoch)` returns one handle of weights per member. The random stream of
        the coupling depends on its registered name, the seed and `name`. Raise `ValueError` for members that differ in setting,
        schedule or kind of objective, and for a number of members that the coupling does not take.
        """
        return JointTrajectory(tuple(members), coupling, (coupling.name, self.seed, name))

    def build(self, method: str, **options: Any) -> tuple[Weights, ...]:
        """Return the members of another method on this data set, architecture and seed: M handles, in order.

        `method` is a registered name, `options` are its options. Nothing is trained twice: the handles are those of the
        method itself. An average of SWE's samples, for example, derives from `cell.build("swe")`. A method that
        requests its own members, directly or through other methods, fails its cell, and so do options that do not fit.
        """
        if self.members_of is None:
            raise ValueError(f"cell.build('{method}'): this cell was made without other methods")
        return self.members_of(self, method, options)
