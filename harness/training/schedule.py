"""The learning rate as a function of the step. Knows nothing of optimizers."""

from __future__ import annotations

from collections.abc import Callable

from harness.api.recipe import Recipe
from harness.api.schedules import Schedule


def learning_rate(
    recipe: Recipe, steps_per_epoch: int, schedule: Schedule | None = None, schedule_start: int = 0
) -> Callable[[int], float]:
    """Return the function from a step, counted from initialization, to its learning rate.

    This is the recipe's warm-up and cosine, or `schedule`, which begins at epoch `schedule_start`. Both are evaluated at the
    middle of each step, so that neither the first nor the last step has rate 0.
    """
    if schedule is None:
        return lambda step: recipe.cosine((step + 0.5) / steps_per_epoch)
    return lambda step: schedule.at((step + 0.5) / steps_per_epoch - schedule_start)
