"""The learning rate as a function of the step. Knows nothing of optimizers."""

from __future__ import annotations

from collections.abc import Callable

from harness.api.recipe import Recipe


def learning_rate(
    recipe: Recipe, steps_per_epoch: int, constant_learning_rate: float | None = None, restart_epoch: int | None = None
) -> Callable[[int], float]:
    """Return the function from a step, counted from initialization, to its learning rate.

    The recipe's cosine, taken at the middle of each step, so that neither the first nor the last step has rate 0;
    or a constant (`constant_learning_rate`); or a new warm-up and cosine over the epochs from `restart_epoch` to T.
    """
    if constant_learning_rate is not None:
        return lambda step: constant_learning_rate
    begin = restart_epoch or 0
    rest = recipe.model_copy(update={"epochs": recipe.epochs - begin})
    return lambda step: rest.cosine((step + 0.5) / steps_per_epoch - begin)
