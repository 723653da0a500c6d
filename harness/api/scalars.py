"""Numbers and names of random streams from plugins' code: NumPy scalars become Python numbers, other types are refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from harness.streams import Name


def without_numpy(value: Any) -> Any:
    """Return a NumPy scalar, or an array of shape (), as a Python number; any other value unchanged."""
    numpy = sys.modules.get("numpy")  # if it was never imported, no value is NumPy's
    if numpy is None:
        return value
    is_scalar = isinstance(value, numpy.generic) or (isinstance(value, numpy.ndarray) and value.ndim == 0)
    if is_scalar:
        return value.item()
    return value


def without_numpy_inside(value: Any) -> Any:
    """Return a value in which NumPy scalars, also in nested dicts, lists, tuples and sets, are Python numbers."""
    if type(value) is dict:
        return {without_numpy(key): without_numpy_inside(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(without_numpy_inside(item) for item in value)
    return without_numpy(value)


def integer(value: Any, noun: str) -> int:
    """Return a Python or NumPy integer as an int; raise `ValueError` for any other value, including booleans."""
    if type(value) is int:  # almost always, and handles are made of many
        return value
    plain = without_numpy(value)
    if not isinstance(plain, int) or isinstance(plain, bool):
        raise ValueError(f"{noun} must be an integer, not {plain!r:.60}")
    return int(plain)


def number(value: Any, noun: str) -> float:
    """Return a finite Python or NumPy number of at least 0 as a float; raise `ValueError` for any other value."""
    plain = without_numpy(value)
    if not isinstance(plain, (int, float)) or isinstance(plain, bool) or not 0 <= plain < math.inf:
        raise ValueError(f"{noun} must be a finite number of at least 0, not {plain!r:.60}")
    return float(plain) + 0.0  # -0.0 equals 0.0


def truth(value: Any, noun: str) -> bool:
    """Return a Python or NumPy boolean as a bool; raise `ValueError` for any other value."""
    if type(value) is bool:
        return value
    plain = without_numpy(value)
    if not isinstance(plain, bool):
        raise ValueError(f"{noun} must be true or false, not {plain!r:.60}")
    return plain


def stream_name(parts: Sequence[Any]) -> Name:
    """Return the name of a random stream as strings and integers; raise `ValueError` for other parts."""
    name: list[str | int] = []
    for part in parts:
        if isinstance(part, str):
            name.append(str(part))
        else:
            name.append(integer(part, "a part of a stream's name"))
    return tuple(name)
