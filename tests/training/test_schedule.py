"""The learning rate against the paper's words: linear warm-up over a tenth of T, cosine to zero, SWE's floor of 0.01."""

from __future__ import annotations

import math

import pytest

from harness import Recipe
from harness.training.schedule import learning_rate


def test_warmup_is_linear_over_the_first_tenth() -> None:
    """At epoch 5.5 of 110, half of the peak; at 11, the peak."""
    recipe = Recipe(epochs=110)
    assert recipe.cosine(5.5) == pytest.approx(0.05)
    assert recipe.cosine(11) == pytest.approx(0.1)


def test_cosine_ends_at_zero() -> None:
    """Half-way down it is half of the peak, at T it is 0."""
    recipe = Recipe(epochs=110)
    assert recipe.cosine(11 + 99 / 2) == pytest.approx(0.05)
    assert recipe.cosine(110) == pytest.approx(0, abs=1e-18)


def test_no_step_has_rate_zero() -> None:
    """Steps are taken at their middles, so the first and the last one move."""
    rate = learning_rate(Recipe(epochs=10), steps_per_epoch=4)
    assert all(rate(step) > 0 for step in range(40))


@pytest.mark.parametrize(("epochs", "parting"), [(110, 90), (190, 155), (130, 107)])
def test_epoch_at_which_the_cosine_meets_swes_floor(epochs: int, parting: int) -> None:
    """The first whole epoch with a rate of at most 0.01: 81.6 % of T."""
    recipe = Recipe(epochs=epochs)
    assert recipe.epoch_at(0.01) == parting
    assert recipe.cosine(parting) <= 0.01 < recipe.cosine(parting - 1)


def test_rate_above_the_peak_is_met_where_the_decay_begins() -> None:
    """A floor that is never undercut on the way up is met at the end of the warm-up."""
    assert Recipe(epochs=110).epoch_at(1.0) == 11


def test_held_rate_is_constant() -> None:
    """SWE's continuation does not follow the cosine."""
    rate = learning_rate(Recipe(epochs=10), 4, constant_learning_rate=0.01)
    assert {rate(step) for step in (0, 39, 400)} == {0.01}


def test_restarted_schedule_fills_the_epochs_left() -> None:
    """A schedule restarted at t is the recipe's shape over T - t epochs."""
    recipe, steps = Recipe(epochs=30, warmup=0.2), 5
    rate = learning_rate(recipe, steps, restart_epoch=10)
    rest = Recipe(epochs=20, warmup=0.2)
    assert [rate(10 * steps + s) for s in range(100)] == pytest.approx([rest.cosine((s + 0.5) / steps) for s in range(100)])
    assert math.isclose(rate(14 * steps), rest.cosine(4.1))
