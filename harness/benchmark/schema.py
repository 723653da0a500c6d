"""The JSON schema of benchmark files, for editors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.api.options import Options
from harness.api.plugin import Plugin
from harness.api.recipe import Recipe
from harness.benchmark.format import OPTIONAL, RESERVED, SECTIONS, BenchmarkFile, is_family

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue

Schema = dict[str, Any]

_LABEL = {
    "type": "string",
    "description": "the entry's name in rows and tables; default: its registered name",
    "minLength": 1,
    "maxLength": 100,
    "pattern": "^[^|]+$",
}
_GRID_DESCRIPTION = "options with lists of values; the entry expands into one method per combination of values"


def json_schema(catalogue: Catalogue) -> Schema:
    """Return the JSON schema (2020-12) of benchmark files, with the names and options of a catalogue's plugins."""
    return _SchemaBuilder(catalogue).build()


class _SchemaBuilder:
    """Adds the names and options of plugins to the schema of the format."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._definitions: Schema = {}

    def build(self) -> Schema:
        """Return the whole schema."""
        schema = self._model_schema(BenchmarkFile, "file")
        properties = schema["properties"]
        for kind, section in SECTIONS.items():
            properties[section]["items"] = self._entry(kind)
        properties["metrics"]["default"] = self._catalogue.defaults("metric")
        properties["objective"] |= self._entry("objective")
        properties["objective"].pop("default", None)
        for name in self._catalogue.defaults("objective"):
            properties["objective"]["default"] = name
        self._definitions["recipe"] = self._model_schema(Recipe, "recipe")
        properties["recipe"] = {"description": properties["recipe"]["description"], "$ref": "#/$defs/recipe"}
        block = self._definitions["file.SettingsBlock"]["properties"]
        block["recipe"]["anyOf"][0] = {"$ref": "#/$defs/recipe"}
        block["method_options"]["anyOf"][0] = self._method_options()
        for name in OPTIONAL:
            properties[name] = _or_null(properties[name])
        schema |= {"title": "benchmark", "patternProperties": {"^x-": {}}, "$defs": self._definitions}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def _entry(self, kind: str) -> Schema:
        """Return the schema of an entry: a name alone, or a mapping of one name to options."""
        alternatives: list[Schema] = []
        names: Schema = {}
        patterns: Schema = {}
        for name in self._catalogue.names(kind):
            options = self._options(kind, name)
            if not options.get("required"):
                alternatives.append({"type": "string", "description": options["description"], **_name_schema(name)})
                options = _or_null(options)
            if is_family(name):
                patterns[_family_pattern(name)] = options
            else:
                names[name] = options
        mapping = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
        return {"anyOf": [*alternatives, {**mapping, "properties": names, "patternProperties": patterns}]}

    def _options(self, kind: str, name: str) -> Schema:
        """Return the schema of a plugin's options and of the reserved keys of its entries."""
        plugin_class = self._catalogue.get(kind, name)
        schema = self._plugin_options(kind, name, plugin_class)
        properties = dict(schema.get("properties", {}))
        reserved = RESERVED.get(kind, ())
        if "grid" in reserved:
            schema.pop("required", None)  # a grid or the settings may give them instead
            properties["grid"] = _grid_schema(properties)
        if "label" in reserved:
            properties["label"] = _LABEL
        description = (plugin_class.__doc__ or "").strip().partition("\n")[0]
        return {**schema, "description": description, "properties": properties}

    def _method_options(self) -> Schema:
        """Return the schema of the settings' `method_options`: every option of every method."""
        alternatives: dict[str, list[Schema]] = {}
        for name in self._catalogue.names("ensemble_builder"):
            plugin_class = self._catalogue.get("ensemble_builder", name)
            schema = self._plugin_options("ensemble_builder", name, plugin_class)
            for key, option in schema.get("properties", {}).items():
                known = alternatives.setdefault(key, [])
                if option not in known:
                    known.append(option)
        properties = {}
        for key, options in alternatives.items():
            properties[key] = options[0] if len(options) == 1 else {"anyOf": options}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _plugin_options(self, kind: str, name: str, plugin_class: type[Plugin]) -> Schema:
        suffix = re.sub("[^a-z0-9]+", "_", name.lower())
        return self._model_schema(plugin_class.Options, f"{kind}.{suffix}")

    def _model_schema(self, model: type[Options], prefix: str) -> Schema:
        """Return the schema of a model. The schemas that it refers to become definitions with prefixed names."""
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
        for name, definition in schema.pop("$defs", {}).items():
            self._definitions[f"{prefix}.{name}"] = definition
        return schema


def _name_schema(name: str) -> Schema:
    if is_family(name):
        return {"pattern": _family_pattern(name)}
    return {"const": name}


def _family_pattern(name: str) -> str:
    """Return the pattern of the names of a family's members: `^timm/.` for `timm/<name>`."""
    stem = name[: name.index("<")]
    return f"^{re.escape(stem)}."


def _grid_schema(options: Schema) -> Schema:
    axes = {key: {"type": "array", "minItems": 1, "items": option} for key, option in options.items()}
    return {
        "type": "object",
        "description": _GRID_DESCRIPTION,
        "minProperties": 1,
        "properties": axes,
        "additionalProperties": False,
    }


def _or_null(schema: Schema) -> Schema:
    """Return a schema that also accepts a key without a value."""
    outer: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    return {**outer, "anyOf": [schema, {"type": "null"}]}
