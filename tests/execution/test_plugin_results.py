"""Checks of values that plugins return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from harness import MetricValue
from harness.errors import PluginFailed
from harness.execution.plugin_results import check_values

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
