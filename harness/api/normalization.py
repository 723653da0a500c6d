"""The mean and standard deviation by which images are normalized: the recipe's, or by default the data set's."""

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
    """Return the mean and standard deviation per channel for a data set's images under a recipe.

    Raise `ValueError` if there is not one value per channel, or if a value is out of range.
    """
    channels = dataset.shape[0]
    if recipe.normalization is not None:
        source = "normalization"
        mean, deviation = recipe.normalization
    else:
        source = f"data set '{dataset.name}': its normalization"
        mean, deviation = _normalization_of_dataset(dataset)
    if not len(mean) == len(deviation) == channels:
        counts = f"{_count(len(mean), 'mean')} and {_count(len(deviation), 'deviation')}"
        raise ValueError(f"{source} has {counts}; images of '{dataset.name}' have {_count(channels, 'channel')}")
    _check_range(mean, MEANS, f"{source} has mean")
    _check_range(deviation, DEVIATIONS, f"{source} has deviation")
    return mean, deviation


def _check_range(values: Sequence[float], limits: tuple[float, float], subject: str) -> None:
    least, most = limits
    for channel, value in enumerate(values):
        if not least <= value <= most:
            raise ValueError(f"{subject} {value} in channel {channel}; at least {least} and at most {most}")


def _normalization_of_dataset(dataset: Dataset) -> Normalization:
    """Return a data set's normalization as tuples of floats; a plugin may return lists, arrays or tensors."""
    try:
        value: Any = dataset.normalization
    except Exception as error:  # a plugin's code
        raise ValueError(f"data set '{dataset.name}': its normalization fails: {describe_error(error)}") from None
    try:
        mean, deviation = value
        return _floats(mean), _floats(deviation)
    except (TypeError, ValueError):
        raise ValueError(
            f"data set '{dataset.name}': its normalization is {value!r:.60}; a sequence of means and one of deviations"
        ) from None


def _floats(values: Any) -> tuple[float, ...]:
    """Return numbers as floats; raise `TypeError` for any other values."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    numbers = []
    for value in values:
        number = without_numpy(value)
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError
        numbers.append(float(number))
    return tuple(numbers)


def _count(number: int, noun: str) -> str:
    ending = "" if number == 1 else "s"
    return f"{number} {noun}{ending}"
