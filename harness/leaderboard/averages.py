"""Mean and standard deviation of a board's entry, correctly rounded.

The results are those of `mean` and `stdev` of the module `statistics` (Python 3.11), which take ten times as long.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (ddof = 1) of at least one value.

    The standard deviation is None for one value and for values that are not all finite.
    """
    if not all(map(math.isfinite, values)):
        return statistics.mean(values), None
    count = len(values)
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(denominator for _, denominator in ratios)  # denominators are powers of two, so each divides the largest
    scaled = [numerator * (scale // denominator) for numerator, denominator in ratios]
    total = sum(scaled)
    mean = total / (count * scale)
    if count < 2:
        return mean, None
    spread = count * sum([number * number for number in scaled]) - total * total
    try:
        return mean, _root(spread, count * (count - 1) * scale * scale)
    except OverflowError:
        return mean, math.inf


def _root(numerator: int, denominator: int) -> float:
    """Return the square root of a fraction, correctly rounded. Raise `OverflowError` if it is too large.

    The root is computed to 55 bits, of which the last one is 1 if bits are lost, so that only its division rounds
    (CPython's `statistics`, after Boldo and Melquiond, doi:10.1109/TC.2007.70819).
    """
    shift = (numerator.bit_length() - denominator.bit_length() - 109) // 2
    if shift >= 0:
        return float(_root_rounded_to_odd(numerator, denominator << 2 * shift) << shift)
    return _root_rounded_to_odd(numerator << -2 * shift, denominator) / (1 << -shift)


def _root_rounded_to_odd(numerator: int, denominator: int) -> int:
    root = math.isqrt(numerator // denominator)
    return root | (root * root * denominator != numerator)
