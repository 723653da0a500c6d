"""The mean and deviation by which images are normalized: the recipe's, or else the data set's own."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from harness.api.recipe import DEVIATIONS, MEANS, Recipe
from harness.api.scalars import without_numpy
from harness.text import describe_error

if TYPE_CHECKING:
    from harness.api.interfaces import Dataset

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, of pixel values in [0, 1]."""


def normalization_of(recipe: Recipe, dataset: Dataset) -> Normalization:
    """Return the normalization of a data set's images under a recipe, as plain numbers.

    Raise `ValueError` if it has not one value per channel, or one that cannot work.
    """
    channels = dataset.shape[0]
    if recipe.normalization is not None:
        whose, given = "normalization", recipe.normalization
    else:
        whose, given = f"data set '{dataset.name}': its normalization", _plain(dataset)
    mean, deviation = given
    if not len(mean) == len(deviation) == channels:
        counts = f"{_count(mean, 'mean')} and {_count(deviation, 'deviation')}"
        raise ValueError(f"{whose} has {counts}; images of '{dataset.name}' have {_count(range(channels), 'channel')}")
    for name, values, (least, most) in (("mean", mean, MEANS), ("deviation", deviation, DEVIATIONS)):
        for channel, value in enumerate(values):
            if not least <= value <= most:
                raise ValueError(f"{whose} has {name} {value} in channel {channel}; at least {least} and at most {most}")
    return mean, deviation


def _plain(dataset: Dataset) -> Normalization:
    """Return a data set's normalization as tuples, whichever kind of array it gives."""
    try:
        given: Any = dataset.normalization
    except Exception as error:  # a plugin's code
        raise ValueError(f"data set '{dataset.name}': its normalization fails: {describe_error(error)}") from None
    try:
        mean, deviation = (_numbers(values) for values in given)
    except (TypeError, ValueError):
        raise ValueError(
            f"data set '{dataset.name}': its normalization is {given!r:.60}; a sequence of means and one of deviations"
        ) from None
    return mean, deviation


def _numbers(values: Any) -> tuple[float, ...]:
    listed: Sequence[Any] = values.tolist() if hasattr(values, "tolist") else values
    plain = [without_numpy(value) for value in listed]
    if any(isinstance(value, bool) or not isinstance(value, Real) for value in plain):
        raise TypeError
    return tuple(float(value) for value in plain)


def _count(values: Sequence[Any], noun: str) -> str:
    return f"{len(values)} {noun}{'' if len(values) == 1 else 's'}"
