"""The learning rate: linear warm-up over a tenth of T epochs, cosine to zero, constant and restarted schedules."""

from __future__ import annotations

import math

import pytest

from harness import Recipe
from harness.training.schedule import learning_rate


def test_warmup_is_linear_over_the_first_tenth() -> None:
    """It is half of the peak at epoch 5.5 of 110, and the peak at epoch 11."""
    recipe = Recipe(epochs=110)
    assert recipe.cosine(5.5) == pytest.approx(0.05)
    assert recipe.cosine(11) == pytest.approx(0.1)


def test_cosine_ends_at_zero() -> None:
    """It is half of the peak halfway through the decay, and 0 at T."""
    recipe = Recipe(epochs=110)
    assert recipe.cosine(11 + 99 / 2) == pytest.approx(0.05)
    assert recipe.cosine(110) == pytest.approx(0, abs=1e-18)


def test_no_step_has_rate_zero() -> None:
    """The rate is evaluated at the middle of a step, so it is positive for the first and the last one."""
    rate = learning_rate(Recipe(epochs=10), steps_per_epoch=4)
    assert all(rate(step) > 0 for step in range(40))


@pytest.mark.parametrize(("epochs", "expected"), [(110, 90), (190, 155), (130, 107)])
def test_epoch_at_which_the_cosine_reaches_a_rate(epochs: int, expected: int) -> None:
    """The first epoch with a rate of at most 0.01, SWE's constant rate, is at 81.6 % of T."""
    recipe = Recipe(epochs=epochs)
    assert recipe.epoch_at(0.01) == expected
    assert recipe.cosine(expected) <= 0.01 < recipe.cosine(expected - 1)


def test_epoch_at_which_the_cosine_reaches_a_rate_above_the_peak() -> None:
    """It is the end of the warm-up."""
    assert Recipe(epochs=110).epoch_at(1.0) == 11


def test_constant_learning_rate() -> None:
    """The rate is the constant at every step."""
    rate = learning_rate(Recipe(epochs=10), 4, constant_learning_rate=0.01)
    assert {rate(step) for step in (0, 39, 400)} == {0.01}


def test_restarted_schedule() -> None:
    """A schedule that restarts at epoch t has the recipe's shape over T - t epochs."""
    recipe = Recipe(epochs=30, warmup=0.2)
    steps = 5
    rate = learning_rate(recipe, steps, restart_epoch=10)
    rest = Recipe(epochs=20, warmup=0.2)
    for step in range(100):
        assert rate(10 * steps + step) == pytest.approx(rest.cosine((step + 0.5) / steps))
    assert math.isclose(rate(14 * steps), rest.cosine(4.1))
