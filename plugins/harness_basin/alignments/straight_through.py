"""The training that `ste` and `ste_mm` have in common: epochs of straight-through steps. The best permutations are kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness import DerivationContext, DerivationState, StateDict, streams
from harness_basin.alignments.checking import check_batches, function_difference, permutation_symmetry
from harness_basin.alignments.mixture_network import MixtureNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from harness_basin.matching import Permutations, Symmetry
    from harness_basin.matching.straight_through import StraightThrough

OptimizerName = Literal["sgd", "adam"]


@dataclass(frozen=True)
class TrainingPlan:
    """The options of a straight-through training. `center`: the mixture is always the mean of the members."""

    epochs: int
    batch_size: int
    optimizer: OptimizerName
    learning_rate: float
    momentum: float
    max_sweeps: int
    center: bool

    @classmethod
    def of(cls, options: Any, *, center: bool) -> TrainingPlan:
        """Return the plan of an alignment with such options."""
        return cls(
            options.epochs,
            options.batch_size,
            options.optimizer,
            options.learning_rate,
            options.momentum,
            options.max_sweeps,
            center,
        )


@dataclass
class Progress:
    """What the training has found so far, all in nats.

    `losses` are those of the members' mean on the subset: with the permutations at the start, and after each epoch.
    `training_losses` are means over the batches of each epoch. `identity_loss` is that of the members as they were given.
    """

    identity_loss: float = math.nan
    losses: list[float] = field(default_factory=list)
    training_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best: list[Permutations] = field(default_factory=list)

    def note(self, loss: float, permutations: Sequence[Permutations]) -> None:
        """Note the loss after an epoch, and keep its permutations if no earlier ones are as good."""
        self.losses.append(loss)
        if loss < self.losses[self.best_epoch] or len(self.losses) == 1:
            self.best_epoch = len(self.losses) - 1
            self.best = list(permutations)


def align(
    name: str, parents: Sequence[StateDict], context: DerivationContext, plan: TrainingPlan
) -> tuple[list[StateDict], dict[str, Any]]:
    """Return all parents, aligned, and facts. The first parent is not moved.

    Raise `TaskFailed` if the loss is not finite, or if a function changes. `name` is the alignment's, for messages.
    """
    from harness_basin.matching import permute
    from harness_basin.matching.straight_through import LatentRule, StraightThrough

    symmetry = permutation_symmetry(context)
    if len(parents) == 1 or not symmetry.groups:
        return [_copy(parent) for parent in parents], _facts_without_training(len(parents))
    if plan.epochs:
        check_batches(name, context, context.network(), plan.batch_size)
    rule = LatentRule(plan.optimizer, plan.learning_rate, plan.momentum)
    straight = StraightThrough(symmetry, parents, rule, stream=context.stream, max_sweeps=plan.max_sweeps)
    training = _Training(name, context, plan, straight)
    progress = training.run()
    aligned = [_copy(parents[0])]
    differences = [0.0]
    for permutations, parent in zip(progress.best, parents[1:], strict=True):
        aligned.append(permute(symmetry, permutations, parent))
        differences.append(function_difference(context, parent, aligned[-1]))
    facts = {
        "objective": _objective(symmetry, aligned),
        "loss": progress.losses[progress.best_epoch],
        "losses": progress.losses,
        "identity_loss": progress.identity_loss,
        "worse_than_identity": progress.losses[progress.best_epoch] > progress.identity_loss,
        "training_losses": progress.training_losses,
        "best_epoch": progress.best_epoch,
        "assignments": straight.assignments,
        "images": training.images,
        "gradient_steps": straight.steps,
        "function_differences": differences,
    }
    return aligned, facts


def _copy(state: StateDict) -> StateDict:
    """Return a copy of weights."""
    return {name: tensor.clone() for name, tensor in state.items()}


def _facts_without_training(members: int) -> dict[str, Any]:
    """Return the facts of a network alone, and of networks without hidden symmetry."""
    counts = {"objective": 0.0, "assignments": 0, "images": 0, "gradient_steps": 0, "best_epoch": 0}
    return {**counts, "worse_than_identity": False, "function_differences": [0.0] * members}


def _objective(symmetry: Symmetry, states: Sequence[StateDict]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩ over the weights that permutations move."""
    from harness_basin.matching.coordinate_descent.gram import inner_product

    return 2 * math.fsum(inner_product(symmetry, a, b) for a, b in itertools.combinations(states, 2))


class _Training:
    """The epochs of one derivation. It continues from the state that the context has saved."""

    def __init__(self, name: str, context: DerivationContext, plan: TrainingPlan, straight: StraightThrough) -> None:
        self._name = name
        self._context = context
        self._plan = plan
        self._straight = straight
        self._network = MixtureNetwork(context, straight.members[0])
        self._members = len(straight.members)
        self._progress = Progress()

    @property
    def images(self) -> int:
        """The number of training images read, counting repetitions."""
        return self._network.images

    def run(self) -> Progress:
        """Train until the last epoch."""
        state = self._context.resume()
        if state is None:
            begin = 0
            self._straight.match_to_first()
            self._progress.identity_loss = self._subset_loss(self._straight.unaligned_center())
            self._note()
        else:
            begin = state.epoch
            self._load(state)
        for epoch in range(begin, self._plan.epochs):
            self._train(epoch)
            self._note()
            self._context.save(self._state(epoch + 1))
        return self._progress

    def _train(self, epoch: int) -> None:
        """Take the steps of one epoch."""
        straight = self._straight
        straight.forget_assignments()
        losses = []
        for images, labels in self._context.batches(epoch, self._plan.batch_size):
            weights = self._draw(straight.steps)
            loss, gradient = self._network.gradient(straight.mixture(weights), images, labels)
            self._require_finite(loss, f"of step {straight.steps + 1}")
            straight.step(straight.layout.flatten(gradient), weights)
            losses.append(loss)
        self._progress.training_losses.append(math.fsum(losses) / len(losses))

    def _draw(self, step: int) -> Tensor:
        """Return the weights of the members in a step's mixture, (members,), float64: 1/M each, or drawn from Dir(1)."""
        import torch

        if self._plan.center:
            return torch.full((self._members,), 1 / self._members, dtype=torch.float64)
        numbers = streams.uniform(streams.key("mixture", self._context.stream, step), torch.arange(self._members))
        exponentials = -torch.log(numbers.double() + 2.0**-25)  # the numbers are multiples of 2⁻²⁴, from 0
        return exponentials / exponentials.sum()

    def _note(self) -> None:
        import torch

        center = torch.full((self._members,), 1 / self._members, dtype=torch.float64)
        loss = self._subset_loss(self._straight.mixture(center))
        self._progress.note(loss, self._straight.permutations)

    def _subset_loss(self, mixture: StateDict) -> float:
        return self._require_finite(self._network.subset_loss(mixture), "of the members' mean")

    def _require_finite(self, loss: float, when: str) -> float:
        from harness_basin.matching.errors import require_finite_loss

        return require_finite_loss(self._name, loss, when, self._plan.learning_rate)

    def _state(self, epoch: int) -> DerivationState:
        from harness_basin.matching.straight_through import named_permutations

        progress = self._progress
        values = {
            "steps": self._straight.steps,
            "assignments": self._straight.assignments,
            "images": self._network.images,
            "identity_loss": progress.identity_loss,
            "losses": progress.losses,
            "training_losses": progress.training_losses,
            "best_epoch": progress.best_epoch,
        }
        return DerivationState(epoch, {**self._straight.tensors(), **named_permutations("best", progress.best)}, values)

    def _load(self, state: DerivationState) -> None:
        from harness_basin.matching.straight_through import permutations_named

        values: Mapping[str, Any] = state.values
        straight = self._straight
        straight.load(state.tensors, values["steps"], values["assignments"])
        self._network.images = values["images"]
        best = permutations_named("best", state.tensors, self._members - 1, len(straight.symmetry.groups))
        losses, training_losses = list(values["losses"]), list(values["training_losses"])
        self._progress = Progress(values["identity_loss"], losses, training_losses, values["best_epoch"], best)
