"""The cost of an ensemble, in epochs of plain training."""

from __future__ import annotations

from collections.abc import Iterable

from harness.api.derived_weights import DerivedWeights
from harness.api.joint_trajectory import JointCheckpoint, JointTrajectory
from harness.api.moment_weights import MomentWeights
from harness.api.trajectory import Checkpoint, Trajectory, Weights
from harness.plan.ancestors import ancestors


def epochs_alone(members: Iterable[Weights]) -> float:
    """Return the cost of an ensemble that is built alone, in epochs of plain training.

    Training that several members share counts once, and so does a derivation that trains. Teachers are a separate ensemble:
    their cost is added, and nothing is shared between teachers and students.
    """
    last_epochs: dict[Trajectory | JointTrajectory, int] = {}
    derivations: dict[str, float] = {}
    teachers: dict[Weights, None] = {}
    for weights in ancestors(members, _trained_from):
        if isinstance(weights, Checkpoint | JointCheckpoint):
            trajectory = weights.trajectory
            last_epochs[trajectory] = max(last_epochs.get(trajectory, 0), weights.epoch)
            teachers.update(dict.fromkeys(trajectory.teachers))
        elif isinstance(weights, DerivedWeights):
            derivations[weights.task_key] = weights.cost
    own = sum(derivations.values())
    for trajectory, last in last_epochs.items():
        own += (last - trajectory.start_epoch) * trajectory.epoch_cost
    if not teachers:
        return own
    return own + epochs_alone(teachers)


def _trained_from(weights: Weights) -> tuple[Weights, ...]:
    """Return the parents of derived weights, or the weights that a trajectory starts from. Teachers are left out."""
    if isinstance(weights, DerivedWeights):
        return weights.parents
    if isinstance(weights, MomentWeights):
        return (weights.checkpoint,)
    if isinstance(weights, Checkpoint | JointCheckpoint):
        return weights.trajectory.starts
    return ()
