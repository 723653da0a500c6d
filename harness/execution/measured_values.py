"""The values of a measurement, and their JSON in the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from harness.api.interfaces import MetricValue
from harness.results.rows import Better

EXAMPLES = "examples"
"""The name of the part of a measurement's object that holds the main value's examples, and of its tensor."""


@dataclass(frozen=True)
class Measured:
    """The result of a measurement: a metric's values, the main one first, and warnings about the ensemble.

    `has_examples` says whether its object has a part with the main value's examples.
    """

    values: tuple[MetricValue, ...]
    warnings: tuple[str, ...]
    has_examples: bool = False


def values_json(values: Sequence[MetricValue]) -> list[dict[str, Any]]:
    """Return a metric's values as JSON."""
    return [_value_json(value) for value in values]


def _value_json(value: MetricValue) -> dict[str, Any]:
    error = value.standard_error
    return {
        "metric": value.metric,
        "value": _number_json(value.value),
        "standard_error": None if error is None else _number_json(error),
        "unit": value.unit,
        "better": value.better,
    }


def measured_from_json(meta: Mapping[str, Any]) -> Measured:
    """Return a measurement from the metadata of its object; raise `ValueError` if the metadata has no measured values."""
    try:
        values = tuple(_value_from_json(value) for value in meta["values"])
        warnings = meta.get("warnings", [])  # objects of earlier versions have no warnings
        has_examples = EXAMPLES in meta.get("files", {})
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if not values:
        raise ValueError("no values")
    if not isinstance(warnings, list) or not all(isinstance(warning, str) for warning in warnings):
        raise ValueError("warnings are no list of texts")
    return Measured(values, tuple(warnings), has_examples)


def _value_from_json(value: Mapping[str, Any]) -> MetricValue:
    metric = value["metric"]
    unit = value["unit"]
    better = value["better"]
    if not isinstance(metric, str) or not isinstance(unit, str) or better not in get_args(Better):
        raise ValueError("a metric, a unit or a direction is no text")
    error = value["standard_error"]
    if error is not None:
        error = float(error)
    return MetricValue(metric, float(value["value"]), error, unit, better)


def _number_json(value: float) -> float | str:
    """Return a finite number, or the text of NaN or an infinity, which JSON lacks; `float` reads both."""
    value = float(value)
    if math.isfinite(value):
        return value
    return repr(value)
