"""Handles: trajectories, checkpoints on them, weights derived from weights. Values with keys; nothing here computes or trains.

θ(epoch) is a function of its trajectory, so a handle can be made, compared, forked and hashed before a single step was taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.api.interfaces import Architecture, Dataset, Derivation, Objective
from harness.api.options import options_json
from harness.api.recipe import Recipe
from harness.api.scalars import integer, number, truth
from harness.api.task import FORMAT, key_of
from harness.streams import Name


def _name(parts: Sequence[Any]) -> Name:
    """Return a stream's name of texts and integers."""
    return tuple(str(part) if isinstance(part, str) else integer(part, "a part of a stream's name") for part in parts)


class ContentAddressed(ABC):
    """A value that is its spec: the key is the spec's sha256, and equality is that of keys."""

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What the value is a function of, as JSON; other keyed values in it by their keys."""

    @cached_property
    def key(self) -> str:
        """sha256 of the spec's canonical JSON, in hex."""
        return key_of(self.spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContentAddressed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class Setting(ContentAddressed):
    """What all trajectories of a cell have in common: data set, architecture, recipe."""

    dataset: Dataset
    architecture: Architecture
    recipe: Recipe

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The setting as JSON."""
        return {
            "kind": "setting",
            "format": FORMAT,
            "dataset": {**self.dataset.identity, "fingerprint": self.dataset.fingerprint},
            "architecture": self.architecture.identity,
            "recipe": options_json(self.recipe),
        }


class Weights(ContentAddressed):
    """A handle to the weights of one network."""

    setting: Setting

    @property
    @abstractmethod
    def location(self) -> dict[str, str]:
        """Where the store keeps them: `object` (a key) and `part` (a file of it)."""


@dataclass(frozen=True, eq=False)
class Trajectory(ContentAddressed):
    """One deterministic training.

    It starts from initialization (`init` names the stream) or from a checkpoint (`start`). The schedule is the recipe's warm-up
    and cosine over T epochs. `constant_learning_rate` replaces it by a constant; `restart_epoch` fits a new warm-up and cosine
    into the epochs from there to T. `fresh_optimizer` drops the momentum of the start checkpoint. `teacher` is what the
    objective learns from, if it needs one.
    """

    setting: Setting
    objective: Objective
    order: Name
    teacher: Weights | None = None
    init: Name | None = None
    start: Checkpoint | None = None
    constant_learning_rate: float | None = None
    restart_epoch: int | None = None
    fresh_optimizer: bool = False

    def __post_init__(self) -> None:
        self._check_teacher()
        object.__setattr__(self, "objective", self.objective.simplified())
        if not self.objective.needs_teacher:
            object.__setattr__(self, "teacher", None)
        object.__setattr__(self, "order", _name(self.order))
        if self.init is not None:
            object.__setattr__(self, "init", _name(self.init))
        if self.constant_learning_rate is not None:
            object.__setattr__(self, "constant_learning_rate", number(self.constant_learning_rate, "learning_rate"))
        if self.restart_epoch is not None:
            object.__setattr__(self, "restart_epoch", integer(self.restart_epoch, "restart_epoch"))
        object.__setattr__(self, "fresh_optimizer", truth(self.fresh_optimizer, "fresh_optimizer"))

    def _check_teacher(self) -> None:
        teacher = self.teacher
        if (teacher is not None) != self.objective.needs_teacher:
            demand = "takes no" if teacher is not None else "needs a"
            raise ValueError(f"objective '{self.objective.full_name}' {demand} teacher")
        if teacher is not None and teacher.setting is not self.setting:
            theirs, ours = teacher.setting.dataset, self.setting.dataset
            if (theirs.shape, theirs.num_classes) != (ours.shape, ours.num_classes):
                raise ValueError(
                    f"the teacher sees images {theirs.shape} of {theirs.num_classes} classes, "
                    f"its student {ours.shape} of {ours.num_classes}; they must agree"
                )

    @property
    def start_epoch(self) -> int:
        """The epoch at which it parts from the trajectory it was forked from; 0 from initialization."""
        return 0 if self.start is None else self.start.epoch

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The trajectory as JSON; parents by their keys."""
        teacher = self.teacher
        return {
            "kind": "trajectory",
            "format": FORMAT,
            "setting": self.setting.key,
            "objective": {**self.objective.identity, "teacher": None if teacher is None else teacher.key},
            "order": list(self.order),
            "init": None if self.init is None else list(self.init),
            "start": None if self.start is None else self.start.key,
            "start_epoch": self.start_epoch,
            "constant_learning_rate": self.constant_learning_rate,
            "restart_epoch": self.restart_epoch,
            "fresh_optimizer": self.fresh_optimizer,
        }

    def at(self, epoch: int) -> Checkpoint:
        """Return the handle of θ(epoch), epochs counted from initialization.

        At the epoch of a fork this is the checkpoint that was forked. Raise `ValueError` before it, beyond T on a cosine, or
        between two epochs.
        """
        epoch = integer(epoch, "epoch")
        last = None if self.constant_learning_rate is not None else self.setting.recipe.epochs
        if epoch < self.start_epoch or (last is not None and epoch > last):
            raise ValueError(
                f"epoch {epoch} is not on this trajectory; {self.start_epoch} to {'any' if last is None else last}"
            )
        if self.start is not None and epoch == self.start_epoch:
            return self.start
        return Checkpoint(self, epoch)


@dataclass(frozen=True, eq=False)
class Checkpoint(Weights):
    """A trajectory at an epoch."""

    trajectory: Trajectory
    epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "epoch", integer(self.epoch, "epoch"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The trajectory's setting."""
        return self.trajectory.setting

    @property
    def spec(self) -> dict[str, Any]:
        """What the checkpoint is, as JSON."""
        return {"kind": "checkpoint", "trajectory": self.trajectory.key, "epoch": self.epoch}

    @cached_property
    def location(self) -> dict[str, str]:
        """A checkpoint is an object of its own."""
        return {"object": self.key, "part": "weights"}

    def fork(
        self,
        *,
        order: int | None = None,
        objective: Objective | None = None,
        teacher: Weights | None = None,
        learning_rate: float | None = None,
        restart_schedule: bool = False,
        fresh_optimizer: bool = False,
    ) -> Trajectory:
        """Return the trajectory that continues from here with another order of batches, objective or learning rate.

        `order` is the member whose order stream it follows; `learning_rate` stays constant from here on. What is not given
        stays: momentum and the remaining schedule too, and the teacher unless another objective is given. A fork that changes
        nothing is the trajectory itself.
        """
        own = self.trajectory
        if teacher is None and objective is None:
            teacher = own.teacher
        fork = replace(
            own,
            teacher=teacher,
            order=own.order if order is None else (*own.order[:-1], integer(order, "order")),
            objective=own.objective if objective is None else objective,
            constant_learning_rate=own.constant_learning_rate if learning_rate is None else learning_rate,
            restart_epoch=self.epoch if truth(restart_schedule, "restart_schedule") else own.restart_epoch,
            fresh_optimizer=fresh_optimizer,
            init=None,
            start=self,
        )
        unchanged = (fork.order, fork.constant_learning_rate, fork.restart_epoch) == (
            own.order,
            own.constant_learning_rate,
            own.restart_epoch,
        ) and not fork.fresh_optimizer
        same_objective = (fork.objective.identity, fork.teacher) == (own.objective.identity, own.teacher)
        return own if unchanged and same_objective else fork


@dataclass(frozen=True, eq=False)
class DerivedWeights(Weights):
    """Weights computed from other weights: one of the outputs of a derivation."""

    derivation: Derivation
    parents: tuple[Weights, ...]
    stream: Name
    output: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", _name(self.stream))
        object.__setattr__(self, "output", integer(self.output, "output"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The first parent's setting."""
        return self.parents[0].setting

    @cached_property
    def task_spec(self) -> dict[str, Any]:
        """What all outputs of the derivation are a function of."""
        return {
            "kind": "derive",
            "format": FORMAT,
            "setting": self.setting.key,
            "derivation": self.derivation.identity,
            "parents": [parent.key for parent in self.parents],
            "stream": list(self.stream),
        }

    @cached_property
    def task_key(self) -> str:
        """The key of the object that holds all outputs."""
        return key_of(self.task_spec)

    @property
    def spec(self) -> dict[str, Any]:
        """Which output of which derivation this is, as JSON."""
        return {"kind": "derived", "task": self.task_key, "output": self.output}

    @cached_property
    def location(self) -> dict[str, str]:
        """A part of the derivation's object."""
        return {"object": self.task_key, "part": f"weights-{self.output}"}


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

        Equal calls give equal handles, whatever method they are made for: that is how methods share training.
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
        """Return the handles of weights derived from others; `name` tells apart the random streams of equal derivations."""
        stream: Name = (derivation.name, self.seed, name)
        return tuple(DerivedWeights(derivation, tuple(parents), stream, i) for i in range(derivation.outputs))
