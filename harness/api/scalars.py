"""Numbers that come from plugins' code: what NumPy gives is taken as the Python number that it is."""

from __future__ import annotations

import math
import sys
from typing import Any


def without_numpy(value: Any) -> Any:
    """Return a NumPy scalar or an array () as the Python number that it is; anything else as it is."""
    numpy = sys.modules.get("numpy")  # where it was never imported, no value is NumPy's
    if numpy is None:
        return value
    is_scalar = isinstance(value, numpy.generic) or (isinstance(value, numpy.ndarray) and value.ndim == 0)
    return value.item() if is_scalar else value


def without_numpy_inside(value: Any) -> Any:
    """Return a value with the NumPy scalars in its mappings, lists, tuples and sets as Python numbers."""
    if type(value) is dict:
        return {without_numpy(key): without_numpy_inside(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(without_numpy_inside(item) for item in value)
    return without_numpy(value)


def integer(value: Any, noun: str) -> int:
    """Return an integer of Python or NumPy as Python's; raise `ValueError` for anything else."""
    plain = without_numpy(value)
    if not isinstance(plain, int) or isinstance(plain, bool):
        raise ValueError(f"{noun} must be an integer, not {plain!r:.60}")
    return int(plain)


def number(value: Any, noun: str) -> float:
    """Return a finite number of Python or NumPy from 0 as a float; raise `ValueError` for anything else."""
    plain = without_numpy(value)
    if not isinstance(plain, (int, float)) or isinstance(plain, bool) or not 0 <= plain < math.inf:
        raise ValueError(f"{noun} must be a finite number of at least 0, not {plain!r:.60}")
    return float(plain) + 0.0  # -0.0 equals 0.0


def truth(value: Any, noun: str) -> bool:
    """Return a truth value of Python or NumPy as Python's; raise `ValueError` for anything else."""
    plain = without_numpy(value)
    if not isinstance(plain, bool):
        raise ValueError(f"{noun} must be true or false, not {plain!r:.60}")
    return plain
