"""The format as JSON schema, for editors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.benchmark.format import OPTIONAL, RESERVED, SECTIONS, BenchmarkFile, is_family
from harness.interfaces import Options, Plugin
from harness.recipe import Recipe

if TYPE_CHECKING:
    from harness.catalogue import Catalogue


def json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of benchmark files with the plugins that are installed."""
    return _FileSchema(catalogue).whole()


class _FileSchema:
    """Puts the plugins' names and options into the format's own schema."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.definitions: dict[str, Any] = {}

    def whole(self) -> dict[str, Any]:
        schema = self._of_model(BenchmarkFile, "file")
        properties = schema["properties"]
        for kind, section in SECTIONS.items():
            properties[section]["items"] = self._entry(kind)
        properties["objective"] |= self._entry("objective")
        self.definitions["recipe"] = self._of_model(Recipe, "recipe")
        properties["recipe"] = {"description": properties["recipe"]["description"], "$ref": "#/$defs/recipe"}
        block = self.definitions["file.SettingsBlock"]["properties"]
        block["recipe"]["anyOf"][0] = {"$ref": "#/$defs/recipe"}
        block["method_options"]["anyOf"][0] = self._method_options()
        for name in OPTIONAL:
            properties[name] = _or_null(properties[name])
        schema |= {"title": "benchmark", "patternProperties": {"^x-": {}}, "$defs": self.definitions}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def _entry(self, kind: str) -> dict[str, Any]:
        """Return the schema of an entry: a name alone, or a mapping of one name to options."""
        alone: list[dict[str, Any]] = []
        listed: dict[str, Any] = {"properties": {}, "patternProperties": {}}
        for name in self.catalogue.names(kind):
            cls = self.catalogue.get(kind, name)
            stem = f"^{re.escape(name[: name.index('<')])}." if is_family(name) else None
            options = self._options(kind, name, cls)
            if not options.get("required"):
                alone.append(
                    {
                        "type": "string",
                        "description": options["description"],
                        **({"pattern": stem} if stem else {"const": name}),
                    }
                )
                options = _or_null(options)
            listed["patternProperties" if stem else "properties"][stem or name] = options
        return {
            "anyOf": [
                *alone,
                {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False, **listed},
            ]
        }

    def _options(self, kind: str, name: str, cls: type[Plugin]) -> dict[str, Any]:
        """Return the schema of an entry's options, reserved keys included."""
        schema = self._of_model(cls.Options, f"{kind}.{re.sub('[^a-z0-9]+', '_', name.lower())}")
        own = schema.setdefault("properties", {})
        reserved = RESERVED.get(kind, ())
        if "grid" in reserved:
            schema.pop("required", None)  # a grid or the settings may give what the entry does not
            axes = {key: {"type": "array", "minItems": 1, "items": option} for key, option in own.items()}
            about = "options with lists of values: one method for each value, for each combination of several"
            grid = {
                "type": "object",
                "description": about,
                "minProperties": 1,
                "properties": axes,
                "additionalProperties": False,
            }
            own = {**own, "grid": grid}
        if "label" in reserved:
            about = "what rows and tables call this entry; left out: its name"
            own = {
                **own,
                "label": {"type": "string", "description": about, "minLength": 1, "maxLength": 100, "pattern": "^[^|]+$"},
            }
        about = (cls.__doc__ or "").strip().partition("\n")[0]
        return {**schema, "description": about, "properties": own}

    def _method_options(self) -> dict[str, Any]:
        """Return the schema of settings' `method_options`: every option of every method."""
        kind = "ensemble_builder"
        arms: dict[str, list[Any]] = {}
        for name in self.catalogue.names(kind):
            for key, option in self._options(kind, name, self.catalogue.get(kind, name))["properties"].items():
                if key not in RESERVED[kind] and option not in arms.setdefault(key, []):
                    arms[key].append(option)
        properties = {key: options[0] if len(options) == 1 else {"anyOf": options} for key, options in arms.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _of_model(self, model: type[Options], prefix: str) -> dict[str, Any]:
        """Return a model's schema; what it refers to goes into the definitions under a prefix."""
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
        inner = schema.pop("$defs", {})
        self.definitions |= {f"{prefix}.{name}": definition for name, definition in inner.items()}
        return schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow a key with nothing after it."""
    outer: dict[str, Any] = {key: schema[key] for key in ("description", "default") if key in schema}
    return {**outer, "anyOf": [schema, {"type": "null"}]}
