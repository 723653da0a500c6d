"""The learning rate: linear warm-up over a tenth of T epochs, cosine to zero, constant and restarted schedules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from harness import Recipe, schedules
from harness.api.options import options_json
from harness.api.schedules import schedule_from_json
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
    """The rate is the constant at every step, whenever the schedule began."""
    rate = learning_rate(Recipe(epochs=10), 4, schedules.Constant(rate=0.01), schedule_start=7)
    assert {rate(step) for step in (0, 39, 400)} == {0.01}


def test_recipe_fitted_into_the_remaining_epochs() -> None:
    """A schedule that begins at epoch t has the recipe's shape over T - t epochs, to the bit."""
    recipe = Recipe(epochs=30, warmup=0.2)
    steps = 5
    rate = learning_rate(recipe, steps, schedules.WarmupCosine.of(recipe, 20), schedule_start=10)
    rest = Recipe(epochs=20, warmup=0.2)
    for step in range(100):
        assert rate(10 * steps + step) == rest.cosine((10 * steps + step + 0.5) / steps - 10)
    assert math.isclose(rate(14 * steps), rest.cosine(4.1))


def test_cosine_cycles() -> None:
    """Each cycle is ½ α₀ (1 + cos(π t / c)), as Huang et al. 2017 write it, from the peak to 0."""
    cycle = schedules.CyclicCosine(peak=0.2, cycle=40)
    for epoch in (0.0, 0.5, 10.0, 39.5):
        expected = 0.1 * (1 + math.cos(math.pi * epoch / 40))
        assert cycle.at(epoch) == pytest.approx(expected)
        assert cycle.at(epoch + 80) == pytest.approx(expected)
        assert schedules.WarmupCosine(peak=0.2, epochs=40).at(epoch) == cycle.at(epoch)
    assert cycle.length is None


def test_triangle() -> None:
    """From 0.05 down to 0.01 in the first half of a cycle of 4 epochs, and back (Garipov et al. 2018)."""
    triangle = schedules.Triangular(high=0.05, low=0.01, cycle=4)
    rates = [triangle.at(epoch) for epoch in (0, 1, 2, 3, 4, 5, 6)]
    assert rates == pytest.approx([0.05, 0.03, 0.01, 0.03, 0.05, 0.03, 0.01])


def test_line() -> None:
    """It goes straight from one rate to the other and ends there."""
    line = schedules.Linear(start=0.1, end=0.05, epochs=10)
    assert [line.at(epoch) for epoch in (0, 4, 10)] == pytest.approx([0.1, 0.08, 0.05])
    assert line.length == 10


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Constant(rate=0.1),
        schedules.WarmupCosine(peak=0.1, epochs=3, warmup=0.5, end=0.01),
        schedules.Linear(start=0.1, end=0.2, epochs=4),
        schedules.CyclicCosine(peak=0.1, cycle=5),
        schedules.Triangular(high=0.1, low=0.01, cycle=2),
    ],
    ids=lambda schedule: schedule.kind,
)
def test_schedule_is_read_back_from_a_spec(schedule: schedules.Schedule) -> None:
    """What a worker reads is the schedule that the builder made."""
    assert schedule_from_json(json.loads(json.dumps(options_json(schedule)))) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Constant(rate=-1.0), "greater than or equal to 0"),
        (lambda: schedules.Constant(rate=math.nan), "finite"),
        (lambda: schedules.CyclicCosine(peak=0.1, cycle=0), "greater than or equal to 1"),
        (lambda: schedules.CyclicCosine(peak=0.1, cycle=2.5), "valid integer"),
        (lambda: schedules.Triangular(high=0.1, low=0.2, cycle=2), "low must not be above high"),
        (lambda: schedules.Triangular(high=0.1, low=0.0, cycle=3), "multiple of 2"),
    ],
)
def test_schedule_that_cannot_be(make: Callable[[], schedules.Schedule], message: str) -> None:
    """Values out of range are refused where the schedule is made."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [None, {}, {"kind": "constant"}, {"kind": "square", "rate": 1.0}])
def test_other_values_are_no_schedules(value: object) -> None:
    """A forged spec is refused as one."""
    with pytest.raises(ValueError, match="no schedule: "):
        schedule_from_json(value)
