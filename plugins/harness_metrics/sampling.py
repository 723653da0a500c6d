"""Means over test examples and their standard errors.

The standard errors are those of other test images with the *same* members. The spread over seeds shows what other trainings
would give. This module knows nothing of networks.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness import MetricValue, statistics


def mean_over_examples(
    metric: str, values: np.ndarray, unit: str = "", better: Literal["higher", "lower", ""] = ""
) -> MetricValue:
    """Return the mean of values (examples,) with its standard error and the values themselves."""
    return MetricValue(metric, float(values.mean()), statistics.standard_error(values), unit, better, values)
