"""Student's t distribution. SciPy is imported when a function is first called."""

from __future__ import annotations

import math

import numpy as np


def quantile(degrees: float, probability: float) -> float:
    """Return the quantile of Student's t with `degrees` degrees of freedom, which need not be an integer."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def two_sided_p(value: float, standard_error: float, degrees: float) -> float:
    """Return the two-sided p-value of value / standard_error against 0.

    Without variation, that is with a standard error of 0, a value of 0 has p = 1 and any other p = 0.
    """
    if standard_error == 0:
        return 1.0 if value == 0 else 0.0
    return float(two_sided_p_values(np.array(value / standard_error), degrees))


def two_sided_p_values(statistics: np.ndarray, degrees: float) -> np.ndarray:
    """Return the two-sided p-values of t statistics, in the shape of the statistics; that of ±∞ is 0."""
    from scipy.special import stdtr

    p_values: np.ndarray = 2.0 * stdtr(degrees, -np.abs(statistics))
    return np.where(np.abs(statistics) == math.inf, 0.0, p_values)
