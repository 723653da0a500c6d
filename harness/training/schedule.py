"""The learning rate as a function of the step. Knows nothing of optimizers."""

from __future__ import annotations

from collections.abc import Callable

from harness.api.recipe import Recipe


def learning_rate(
    recipe: Recipe, steps_per_epoch: int, constant_learning_rate: float | None = None, restart_epoch: int | None = None
) -> Callable[[int], float]:
    """Return the function from a step, counted from initialization, to its learning rate.

    This is the recipe's warm-up and cosine, evaluated at the middle of each step, so that neither the first nor the last step
    has rate 0. With `constant_learning_rate` it is that constant. With `restart_epoch` it is a new warm-up and cosine over the
    epochs from `restart_epoch` to the recipe's last.
    """
    if constant_learning_rate is not None:
        return lambda step: constant_learning_rate
    first_epoch = restart_epoch or 0
    schedule = recipe.model_copy(update={"epochs": recipe.epochs - first_epoch})
    return lambda step: schedule.cosine((step + 0.5) / steps_per_epoch - first_epoch)
