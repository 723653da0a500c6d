"""Plain values → options, with pydantic's errors translated to this project's messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from harness.api.coercion import validated
from harness.api.options import Options
from harness.benchmark.allowed_values import AllowedValues
from harness.benchmark.formatting import format_value, unknown_key
from harness.benchmark.problems import KeyPath
from harness.errors import did_you_mean
from harness.text import single_line

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "mapping_type"), "a mapping"),
    "date_type": "a date",
    "datetime_type": "a date and time",
    "time_delta_type": "a duration",
}
_VIOLATIONS = {
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "out of range"),
    **dict.fromkeys(("too_short", "string_too_short", "missing"), "too short"),
    **dict.fromkeys(("too_long", "string_too_long"), "too long"),
}


class ValidationIssue(NamedTuple):
    """A problem with the value at a path, or with its key. An empty path means the values as a whole."""

    path: KeyPath
    text: str
    at_key: bool = False


def validate_options(
    model: type[Options], values: dict[str, Any], reserved: Iterable[str] = ()
) -> tuple[Any, list[ValidationIssue]]:
    """Return plain values (of YAML or JSON) as options without issues, or None with every issue.

    Validation is strict except for the types that YAML lacks (`harness.api.coercion`). Messages list the `reserved` keys among
    the known ones.
    """
    try:
        return validated(model, values), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    allowed = AllowedValues(model)
    reserved = tuple(reserved)
    issues = []
    rejected: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in errors:
        path = _existing_part(values, detail["loc"])
        issue = _key_issue(detail, path, allowed, reserved)
        if issue is None:
            rejected.setdefault(path, []).append(detail)
        else:
            issues.append(issue)
    for path, details in rejected.items():
        if details[0]["type"] == "too_short" and any(_is_inside(other, path) for other in rejected):
            continue  # pydantic counts the valid items alone
        value = _value_at(values, path)
        text = _describe(details, value, path, allowed)
        if "grid" in reserved and len(path) == 1 and isinstance(value, list):
            text += _advise_grid(path, allowed)
        issues.append(ValidationIssue(path, text))
    return None, issues


def _advise_grid(path: KeyPath, allowed: AllowedValues) -> str:
    """Return where several values of an option belong, unless a list is one value of it."""
    if "a list" in allowed.describe(path):
        return ""
    return f"; to compare several, `grid: {{{path[0]}: […]}}`"


def _existing_part(values: Any, location: Sequence[str | int]) -> KeyPath:
    """Return the longest prefix of an error's location that is a path of `values`; pydantic adds names of union members."""
    path: KeyPath = ()
    for step in location:
        in_mapping = isinstance(values, dict) and step in values
        in_list = isinstance(values, list) and isinstance(step, int) and step < len(values)
        if not in_mapping and not in_list:
            break
        values = values[step]
        path = (*path, step)
    return path


def _is_inside(path: KeyPath, other: KeyPath) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def _key_issue(detail: ErrorDetails, path: KeyPath, allowed: AllowedValues, reserved: Iterable[str]) -> ValidationIssue | None:
    """Return the issue if the error is about an unknown or a missing key, else None."""
    rest = detail["loc"][len(path) :]
    if detail["type"] == "extra_forbidden" and not rest:
        known = allowed.keys(path[:-1])
        if len(path) == 1:
            known += reserved
        return ValidationIssue(path, unknown_key(str(path[-1]), known), at_key=True)
    if detail["type"] == "missing" and len(rest) == 1 and isinstance(rest[0], str):
        return ValidationIssue(path, f"{rest[0]} is missing{allowed.describe((*path, *rest))}")
    return None


def _value_at(values: Any, path: KeyPath) -> Any:
    for step in path:
        values = values[step]
    return values


def _describe(details: list[ErrorDetails], value: Any, path: KeyPath, allowed: AllowedValues) -> str:
    """Return what is wrong with a value and what is allowed. Several errors come from the members of a union."""
    kind = details[0]["type"]
    if kind in ("value_error", "assertion_error"):
        return single_line(str(details[0]["ctx"]["error"]))
    choices = allowed.choices(path)
    if choices and isinstance(value, str):
        return f"unknown value {format_value(value)}{did_you_mean(value, choices)}"
    if len(details) > 1:
        return f"{format_value(value)} is not allowed{allowed.describe(path)}"
    violation = _VIOLATIONS.get(kind, "not allowed")
    expected = _EXPECTED.get(kind)
    if expected:
        violation = f"not {expected}"
    return f"{format_value(value)} is {violation}{allowed.describe(path, known=expected)}"
