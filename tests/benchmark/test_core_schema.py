"""Values of unquoted scalars."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.benchmark.core_schema import resolve_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e+2", -150.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        (".", "."),
        ("1e", "1e"),
        ("10:30", "10:30"),
        ("1:2:3", "1:2:3"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_scalar(text: str, value: Any) -> None:
    """A scalar has the value that the core schema of YAML 1.2 gives it."""
    resolved = resolve_scalar(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_not_a_number() -> None:
    """.nan is a float."""
    resolved = resolve_scalar(".nan")
    assert isinstance(resolved, float)
    assert math.isnan(resolved)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775808", "0x" + "f" * 99, "1" + "0" * 5000])
def test_integer_beyond_64_bits(text: str) -> None:
    """An integer that does not fit into 64 bits is refused, however long it is."""
    with pytest.raises(ValueError):
        resolve_scalar(text)
