"""Options of plugins and recipes: frozen models, the JSON that goes into keys, and the way back. Costs no torch."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from harness.api.coercion import validated
from harness.api.json_values import json_value, model_json
from harness.api.scalars import without_numpy_inside
from harness.api.task import canonical_json
from harness.errors import PluginError


class _SchemaWithOrderedDefaults(GenerateJsonSchema):
    """Writes the default of a set in an order that does not depend on hash seeds."""

    def encode_default(self, dft: Any) -> Any:
        try:
            return json_value(dft)
        except PluginError:  # what is no JSON has no default in a schema
            return super().encode_default(dft)


class Options(BaseModel):
    """Options of a plugin: checked, frozen, strict (no silent conversions), unknown names refused.

    Declare fields with `pydantic.Field(default, description=…)`; the descriptions are what `harness list` and an editor show.
    NumPy's scalars are taken as the Python numbers that they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        super().__init__(**{name: without_numpy_inside(value) for name, value in values.items()})

    # pydantic then builds instances itself when it validates, instead of by `__init__`: JSON would lose its strictness.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_json_schema(cls, *args: Any, **settings: Any) -> dict[str, Any]:
        """Return the JSON schema, as pydantic does, with the defaults in the form that keys have."""
        if len(args) < 3:  # the third is the schema generator
            settings.setdefault("schema_generator", _SchemaWithOrderedDefaults)
        return super().model_json_schema(*args, **settings)

    def describe(self, option: str) -> str:
        """Return an option with its value for a message: `floor is 0.01 (the default)`."""
        value = json.dumps(json_value(getattr(self, option), option), ensure_ascii=False)
        return f"{option} is {value}{'' if option in self.model_fields_set else ' (the default)'}"


def options_json(options: BaseModel) -> dict[str, Any]:
    """Return all options as the JSON that goes into keys, in the form of values that were checked: 1 for a float is 1.0.

    Raise `PluginError` if a value cannot be in a key, or if the options made again from the JSON would be others.
    """
    written = model_json(options)
    again = model_json(_read_back(type(options), canonical_json(written)))
    difference = first_difference(written, again)
    if difference:
        raise PluginError(f"option {difference}; a validator must leave what it has accepted as it is")
    return again


def options_from_json(model: type[BaseModel], values: Any) -> Any:
    """Return the options that `options_json` gave the JSON of; raise `PluginError` if they do not fit."""
    return _read_back(model, canonical_json(values))


def changed_options(options: BaseModel) -> dict[str, Any]:
    """Return the options, as JSON, that are not as they are by default."""
    written = options_json(options)
    for name, field in type(options).model_fields.items():
        if not field.is_required() and written[name] == json_value(field.get_default(call_default_factory=True), name):
            del written[name]
    return written


def first_difference(before: Any, after: Any, where: str = "") -> str:
    """Say where two JSON values differ first, as in `'sizes[1]': 3 would come back as 4`, or nothing."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(f"{where}.{name}".lstrip("."), name) for name in sorted({*before, *after})]
        for place, name in pairs:
            found = first_difference(before.get(name, _MISSING), after.get(name, _MISSING), place)
            if found:
                return found
        return ""
    return "" if before == after else f"'{where}': {_shown(before)} would come back as {_shown(after)}"


_MISSING = object()


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else canonical_json(value)[:60]


@lru_cache(maxsize=1024)
def _read_back(model: type[BaseModel], text: str) -> BaseModel:
    try:
        return validated(model, json.loads(text))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in detail["loc"])
        given = f"option '{where}': {detail['input']!r:.60}" if where else "the options"
        raise PluginError(f"{given} cannot be read back from a key: {detail['msg']}") from None
