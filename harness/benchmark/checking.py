"""Plain values → options, and what is wrong with them in our words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import PydanticUserError, ValidationError

from harness.coercion import validated
from harness.errors import did_you_mean
from harness.interfaces import Options
from harness.source import Place, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Fault(NamedTuple):
    """Something wrong with a value inside checked ones (at its key, for a key that nobody knows); no place: with the whole."""

    place: Place
    text: str
    at_key: bool = False


def checked(model: type[Options], values: dict[str, Any], reserved: Iterable[str] = ()) -> tuple[Any, list[Fault]]:
    """Return plain values (of YAML or JSON) as options, or nothing and every fault. `reserved` keys are named as known too.

    Strict: a list becomes the tuple or set that a field wants, a text an enumeration's member; "10" does not become 10.
    """
    try:
        return validated(model, values), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    schema = _Schema(model)
    faults: list[Fault] = []
    refused: dict[Place, list[ErrorDetails]] = {}
    for detail in errors:
        place = _reached(values, detail["loc"])
        rest = detail["loc"][len(place) :]
        if detail["type"] == "extra_forbidden" and not rest:
            known = [*schema.keys(place[:-1]), *(reserved if len(place) == 1 else ())]
            faults.append(Fault(place, unknown_key(str(place[-1]), known), at_key=True))
        elif detail["type"] == "missing" and len(rest) == 1 and isinstance(rest[0], str):
            faults.append(Fault(place, f"{rest[0]} is missing{schema.allowed((*place, *rest))}"))
        else:
            refused.setdefault(place, []).append(detail)
    for place, alike in refused.items():
        given = _at(values, place)
        if not (isinstance(given, float) and not math.isfinite(given)):  # refused wherever it stands
            faults.append(Fault(place, _refusal(alike, given, place, schema)))
    return None, faults


def unknown_key(key: str, known: Iterable[str]) -> str:
    return f"unknown key {shown(key)}{did_you_mean(key, known)}"


_NOT = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    **dict.fromkeys(("tuple", "list", "set", "frozen_set"), "a list"),
    **dict.fromkeys(("dict", "model", "mapping"), "a mapping"),
    "date": "a date",
    "datetime": "a date and time",
    "time_delta": "a duration",
}
_OUT = {
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "out of range"),
    **dict.fromkeys(("too_short", "string_too_short", "missing"), "too short"),
    **dict.fromkeys(("too_long", "string_too_long"), "too long"),
}


def _refusal(errors: list[ErrorDetails], given: Any, place: Place, schema: _Schema) -> str:
    """Say what is wrong with a value and what is allowed; several errors are the arms of a union."""
    kind = errors[0]["type"]
    if kind in ("value_error", "assertion_error"):
        return one_line(errors[0]["ctx"]["error"])
    choices = schema.choices(place)
    if choices and isinstance(given, str):
        return f"unknown value {shown(given)}{did_you_mean(given, choices)}"
    one = len(errors) == 1
    noun = _NOT.get(kind.removesuffix("_type")) if one else None
    fault = f"is not {noun}" if noun else f"is {_OUT.get(kind, 'not allowed') if one else 'not allowed'}"
    return f"{shown(given)} {fault}{schema.allowed(place, beyond=noun)}"


def _reached(values: Any, loc: Sequence[str | int]) -> Place:
    """Return how far a validation error's place leads inside the values given."""
    place: Place = ()
    for step in loc:
        inside = isinstance(values, dict) and step in values
        if not inside and not (isinstance(values, list) and isinstance(step, int) and step < len(values)):
            break
        values, place = values[step], (*place, step)
    return place


def _at(values: Any, place: Place) -> Any:
    for step in place:
        values = values[step]
    return values


class _Schema:
    """What a model allows at each place, read off its JSON schema."""

    def __init__(self, model: type[Options]) -> None:
        try:
            self._root = model.model_json_schema()
        except PydanticUserError:  # a field of a type that JSON schema cannot express
            self._root = {"properties": {name: {} for name in model.model_fields}}

    def keys(self, place: Place) -> list[str]:
        """Return the keys of the mapping at a place."""
        return list(self._find(place).get("properties", ()))

    def choices(self, place: Place) -> list[str]:
        """Return the texts allowed at a place, if it takes nothing else."""
        schema = self._find(place)
        choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
        return choices if all(isinstance(choice, str) for choice in choices) else []

    def allowed(self, place: Place, beyond: str | None = None) -> str:
        """Return `; ` and what is allowed at a place, unless that says no more than `beyond`."""
        words = self._words(self._find(place))
        return f"; {words}" if words and words != beyond else ""

    def _find(self, place: Place) -> dict[str, Any]:
        here = self._root
        for step in place:
            arms = [self._resolved(arm) for arm in here.get("anyOf", [here])]
            here = next((found for arm in arms if (found := _part(arm, step)) is not None), {})
            here = self._resolved(here)
        return here

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return {**self._root["$defs"][schema["$ref"].split("/")[-1]], **schema}
        return schema

    def _words(self, schema: dict[str, Any]) -> str:
        """Describe what a schema allows: `a number above 0`."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return " or ".join(words for arm in schema["anyOf"] if (words := self._words(arm)))
        if "const" in schema or "enum" in schema:
            return " or ".join(shown(choice) for choice in schema.get("enum", [schema.get("const")]))
        kind = schema.get("type", "")
        words = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a text"}.get(kind, kind)
        words = _FORMATS.get(schema.get("format", ""), words)
        if kind == "array":
            words = self._list_words(schema)
        elif kind == "object":
            words = f"a mapping of {', '.join(schema['properties'])}" if schema.get("properties") else "a mapping"
        examples = f", such as {shown(schema['examples'][0])}" if "examples" in schema else ""
        return words + _bounds(schema) + examples

    def _list_words(self, schema: dict[str, Any]) -> str:
        parts = [self._words(item) for item in schema.get("prefixItems", ())]
        if parts:
            return f"a list of {len(parts)}: {', '.join(parts)}"
        least = schema.get("minItems", 0)
        each = self._words(schema.get("items", {}))
        return "a list" + (f" of at least {least}" if least else "") + (f" (each {each})" if each else "")


_FORMATS = {
    **dict.fromkeys(("path", "file-path", "directory-path"), "a path"),
    "date": "a date such as '2026-01-31'",
    "date-time": "a date and time such as '2026-01-31T12:00:00'",
    "duration": "a duration such as 'PT1H30M'",
    "uuid": "a UUID",
}
"""JSON schema's formats of texts in words."""


def _part(schema: dict[str, Any], step: str | int) -> dict[str, Any] | None:
    """Return the schema of a value's part, if the schema says anything of it."""
    if isinstance(step, str):
        other = schema.get("additionalProperties")
        return schema.get("properties", {}).get(step, other if isinstance(other, dict) else None)
    prefix = schema.get("prefixItems", [])
    return prefix[step] if step < len(prefix) else schema.get("items")


def _bounds(schema: dict[str, Any]) -> str:
    """Return ` above 0 and at most 1`, or nothing."""
    most = "at most" if {"minimum", "exclusiveMinimum"} & schema.keys() else "of at most"
    words = (
        ("exclusiveMinimum", "above"),
        ("minimum", "of at least"),
        ("exclusiveMaximum", "below"),
        ("maximum", most),
        ("multipleOf", "a multiple of"),
    )
    bounds = [f"{word} {shown(schema[key])}" for key, word in words if key in schema]
    bounds += [f"of at most {schema['maxLength']} characters"] if "maxLength" in schema else []
    pattern = f" matching {schema['pattern']}" if "pattern" in schema else ""
    return (" " + " and ".join(bounds) if bounds else "") + pattern


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
