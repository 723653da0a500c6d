"""Descriptions of the values that an options model allows at each path, derived from its JSON schema."""

from __future__ import annotations

from typing import Any

from pydantic import PydanticUserError

from harness.api.options import Options
from harness.benchmark.formatting import format_value
from harness.benchmark.problems import KeyPath

Schema = dict[str, Any]

_TYPE_WORDS = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a text"}
_BOUNDS = (
    ("exclusiveMinimum", "above"),
    ("minimum", "of at least"),
    ("exclusiveMaximum", "below"),
    ("maximum", "at most"),
    ("multipleOf", "a multiple of"),
)


class AllowedValues:
    """Describes the values that a model allows."""

    def __init__(self, model: type[Options]) -> None:
        try:
            self._root = model.model_json_schema()
        except PydanticUserError:  # a field has a type that JSON schema cannot express
            self._root = {"properties": {name: {} for name in model.model_fields}}

    def keys(self, path: KeyPath) -> list[str]:
        """Return the keys of the mapping at a path."""
        return list(self._find(path).get("properties", ()))

    def choices(self, path: KeyPath) -> list[str]:
        """Return the allowed values at a path if they are an enumeration of texts."""
        choices = _choices(self._find(path))
        if all(isinstance(choice, str) for choice in choices):
            return choices
        return []

    def describe(self, path: KeyPath, known: str | None = None) -> str:
        """Return `; ` and the allowed values at a path; nothing if they equal `known`, which the message has said already."""
        words = self._describe(self._find(path))
        if not words or words == known:
            return ""
        return f"; {words}"

    def _find(self, path: KeyPath) -> Schema:
        schema = self._root
        for step in path:
            schema = self._resolve(self._part(schema, step))
        return schema

    def _part(self, schema: Schema, step: str | int) -> Schema:
        for alternative in schema.get("anyOf", [schema]):
            part = _part(self._resolve(alternative), step)
            if part is not None:
                return part
        return {}

    def _resolve(self, schema: Schema) -> Schema:
        """Return a schema with its `$ref` replaced by the definition."""
        if "$ref" not in schema:
            return schema
        name = schema["$ref"].split("/")[-1]
        return {**self._root["$defs"][name], **schema}

    def _describe(self, schema: Schema) -> str:
        """Return the allowed values of a schema, such as `a number above 0`."""
        schema = self._resolve(schema)
        if "anyOf" in schema:
            alternatives = map(self._describe, schema["anyOf"])
            return " or ".join(words for words in alternatives if words)
        if "const" in schema or "enum" in schema:
            return " or ".join(map(format_value, _choices(schema)))
        return self._describe_type(schema) + _describe_bounds(schema) + _describe_example(schema)

    def _describe_type(self, schema: Schema) -> str:
        kind: str = schema.get("type", "")
        if kind == "array":
            return self._describe_list(schema)
        if kind == "object":
            if schema.get("maxProperties") == 1:
                return "a mapping of one name to its options"
            keys = ", ".join(schema.get("properties", ()))
            return f"a mapping of {keys}" if keys else "a mapping"
        words = _TYPE_WORDS.get(kind, kind)
        return _FORMAT_WORDS.get(schema.get("format", ""), words)

    def _describe_list(self, schema: Schema) -> str:
        items = list(map(self._describe, schema.get("prefixItems", ())))
        if items:
            return f"a list of {len(items)}: {', '.join(items)}"
        words = "a list"
        if schema.get("minItems"):
            words += f" of at least {schema['minItems']}"
        item = self._describe(schema.get("items", {}))
        if item:
            words += f" (each {item})"
        return words


_FORMAT_WORDS = {
    **dict.fromkeys(("path", "file-path", "directory-path"), "a path"),
    "date": "a date such as '2026-01-31'",
    "date-time": "a date and time such as '2026-01-31T12:00:00'",
    "duration": "a duration such as 'PT1H30M'",
    "uuid": "a UUID",
}
"""JSON schema's `format` of a text → words."""


def _part(schema: Schema, step: str | int) -> Schema | None:
    """Return the schema of the value under a key or index, or None if the schema has none."""
    if isinstance(step, str):
        properties = schema.get("properties", {})
        if step in properties:
            return properties[step]
        other = schema.get("additionalProperties")
        return other if isinstance(other, dict) else None
    prefix = schema.get("prefixItems", [])
    if step < len(prefix):
        return prefix[step]
    return schema.get("items")


def _choices(schema: Schema) -> list[Any]:
    if "enum" in schema:
        return schema["enum"]
    if "const" in schema:
        return [schema["const"]]
    return []


def _describe_bounds(schema: Schema) -> str:
    """Return ` above 0 and at most 1`, or nothing."""
    bounds = []
    for key, words in _BOUNDS:
        if key in schema:
            bounds.append(f"{words} {format_value(schema[key])}")
    if bounds and bounds[0].startswith("at most"):
        bounds[0] = f"of {bounds[0]}"
    if "maxLength" in schema:
        bounds.append(f"of at most {schema['maxLength']} characters")
    text = ""
    if bounds:
        text = " " + " and ".join(bounds)
    if "pattern" in schema:
        text += f" matching {schema['pattern']}"
    return text


def _describe_example(schema: Schema) -> str:
    if "examples" not in schema:
        return ""
    return f", such as {format_value(schema['examples'][0])}"
