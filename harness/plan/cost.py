"""What an ensemble costs, in epochs of plain training."""

from __future__ import annotations

from collections.abc import Iterable

from harness.api.trajectory import Checkpoint, DerivedWeights, Trajectory, Weights


def epochs_alone(members: Iterable[Weights]) -> float:
    """Return the epochs of training that weights need if built alone, in epochs of plain training.

    What the members share among themselves counts once. Their teachers are another ensemble, trained beforehand: their
    epochs are added, and nothing is shared with the students.
    """
    reach: dict[Trajectory, int] = {}
    teachers: dict[Weights, None] = {}
    stack = list(members)
    while stack:
        weights = stack.pop()
        if isinstance(weights, DerivedWeights):
            stack.extend(weights.parents)
        elif isinstance(weights, Checkpoint):
            trajectory = weights.trajectory
            if trajectory.teacher is not None:
                teachers.setdefault(trajectory.teacher)
            known = trajectory in reach
            reach[trajectory] = max(reach.get(trajectory, 0), weights.epoch)
            if trajectory.start is not None and not known:
                stack.append(trajectory.start)
    own = sum((end - t.start_epoch) * t.objective.epoch_cost for t, end in reach.items())
    return own + (epochs_alone(teachers) if teachers else 0.0)
