"""The learning rate as a function of the step. Knows nothing of optimisers."""

from __future__ import annotations

from collections.abc import Callable

from harness.recipe import Recipe


def learning_rate(
    recipe: Recipe, steps_per_epoch: int, held: float | None = None, restarted_at: int | None = None
) -> Callable[[int], float]:
    """Return the function from a step, counted from initialisation, to its learning rate.

    The recipe's cosine, taken at the middle of each step, so that neither the first nor the last step has rate 0;
    or a constant (`held`); or a new warm-up and cosine over the epochs from `restarted_at` to T.
    """
    if held is not None:
        return lambda step: held
    begin = restarted_at or 0
    rest = recipe.model_copy(update={"epochs": recipe.epochs - begin})
    return lambda step: rest.cosine((step + 0.5) / steps_per_epoch - begin)
