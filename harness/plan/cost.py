"""The cost of an ensemble, in epochs of plain training."""

from __future__ import annotations

from collections.abc import Iterable

from harness.api.trajectory import Checkpoint, DerivedWeights, Trajectory, Weights
from harness.plan.ancestors import ancestors


def epochs_alone(members: Iterable[Weights]) -> float:
    """Return the cost of an ensemble that is built alone, in epochs of plain training.

    Training that several members share counts once, and so does a derivation that trains. Teachers are a separate ensemble:
    their cost is added, and nothing is shared between teachers and students.
    """
    last_epochs: dict[Trajectory, int] = {}
    derivations: dict[str, float] = {}
    teachers: dict[Weights, None] = {}
    for weights in ancestors(members, _trained_from):
        if isinstance(weights, Checkpoint):
            trajectory = weights.trajectory
            last_epochs[trajectory] = max(last_epochs.get(trajectory, 0), weights.epoch)
            if trajectory.teacher is not None:
                teachers.setdefault(trajectory.teacher)
        elif isinstance(weights, DerivedWeights):
            derivations[weights.task_key] = weights.cost
    own = sum(derivations.values())
    for trajectory, last in last_epochs.items():
        own += (last - trajectory.start_epoch) * trajectory.objective.epoch_cost
    if not teachers:
        return own
    return own + epochs_alone(teachers)


def _trained_from(weights: Weights) -> tuple[Weights, ...]:
    """Return the parents of derived weights, or the checkpoint that a trajectory was forked at. Teachers are left out."""
    if isinstance(weights, DerivedWeights):
        return weights.parents
    if isinstance(weights, Checkpoint) and weights.trajectory.start is not None:
        return (weights.trajectory.start,)
    return ()
