"""Checks of values that plugins return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from harness import MetricValue
from harness.errors import PluginFailed
from harness.execution.plugin_results import check_examples, check_values

WHAT = "metric 'toy': measure gave"


@pytest.mark.parametrize("number", [1.5, 2, np.float32(1.5), np.array([1.5]), torch.tensor(1.5), torch.tensor([1.5])])
def test_value_that_is_one_number_of_any_library(number: Any) -> None:
    """A number, and an array or tensor with one element, can become a row."""
    check_values(WHAT, [MetricValue("toy", number, standard_error=number)], "toy")


@pytest.mark.parametrize("number", ["1.5", None, np.array([]), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])])
def test_value_that_is_not_one_number(number: Any) -> None:
    """Text, and an array or tensor with another number of elements, are refused."""
    with pytest.raises(PluginFailed, match=r"metric 'toy': measure gave .*; a name, numbers, a unit and higher"):
        check_values(WHAT, [MetricValue("toy", number)], "toy")


def test_values_with_one_name() -> None:
    """The message has the name that occurs twice."""
    values = [MetricValue(name, 0.0) for name in ("toy", "a", "b", "a")]
    with pytest.raises(PluginFailed, match="measure gave two values named 'a'"):
        check_values(WHAT, values, "toy")


EXAMPLES = np.array([0.0, 1.0, 2.0, 5.0])


@pytest.mark.parametrize("examples", [EXAMPLES, EXAMPLES.astype(np.float32), EXAMPLES.astype(np.int64), None])
def test_examples_whose_mean_is_the_value(examples: np.ndarray | None) -> None:
    """Arrays of any kind of numbers are accepted, and no array."""
    check_examples(WHAT, [MetricValue("toy", 2.0, examples=examples)], 4)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_examples_that_are_not_finite(number: float) -> None:
    """Their mean is not finite either, and neither is the value."""
    check_examples(WHAT, [MetricValue("toy", number, examples=np.array([1.0, number]))], 2)


def test_examples_computed_in_float32() -> None:
    """A mean of many numbers in float32 differs from the value by rounding alone."""
    examples = np.random.default_rng(0).random(10_000).astype(np.float32)
    check_examples(WHAT, [MetricValue("toy", float(examples.sum() / 10_000), examples=examples)], 10_000)


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        ([0.0, 1.0, 2.0, 5.0], r"of type list; a NumPy array of numbers is expected"),
        (np.array(["a", "b", "c", "d"]), r"of type ndarray; a NumPy array of numbers is expected"),
        (EXAMPLES[:3], r"of shape \(3,\); one number per test image, \(4,\), is expected"),
        (EXAMPLES[None], r"of shape \(1, 4\); one number per test image, \(4,\), is expected"),
        (EXAMPLES + 1, r"with mean 3; their mean must be the value, 2"),
        (np.array([0.0, 1.0, 2.0, np.nan]), r"with mean nan; their mean must be the value, 2"),
    ],
)
def test_examples_of_something_else(examples: Any, problem: str) -> None:
    """Another type, another shape and another mean are refused."""
    with pytest.raises(PluginFailed, match=rf"^metric 'toy': measure gave examples of 'toy' {problem}$"):
        check_examples(WHAT, [MetricValue("toy", 2.0, examples=examples)], 4)
