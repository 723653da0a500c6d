"""Options of plugins and recipes: frozen models, their JSON in keys, and reading them back. Imports no torch."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from harness.api.coercion import validated
from harness.api.json_values import json_value, model_json
from harness.api.scalars import without_numpy_inside
from harness.api.task import canonical_json
from harness.errors import PluginError


class _SchemaWithOrderedDefaults(GenerateJsonSchema):
    """Writes defaults as `json_value` does: the order of a set does not depend on hash seeds."""

    def encode_default(self, dft: Any) -> Any:
        try:
            return json_value(dft)
        except PluginError:  # a default without a JSON form
            return super().encode_default(dft)


class Options(BaseModel):
    """Base class of a plugin's options: a frozen pydantic model.

    Values are validated without conversion ("10" is not an int), NaN and infinities are refused, and unknown names are
    refused. NumPy scalars are accepted as Python numbers. Declare every field with a default and a description:

        class Options(harness.Options):
            fork_epoch: int = pydantic.Field(11, ge=0, description="t, the epochs that all members share")

    `harness list` and the schema for editors show the descriptions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        super().__init__(**{name: without_numpy_inside(value) for name, value in values.items()})

    # Marks `__init__` as pydantic's own. Otherwise validation of JSON would call it, and not be strict.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_json_schema(cls, *args: Any, **settings: Any) -> dict[str, Any]:
        """Return pydantic's JSON schema, with defaults written as in keys."""
        if len(args) < 3:  # the third argument is the schema generator
            settings.setdefault("schema_generator", _SchemaWithOrderedDefaults)
        return super().model_json_schema(*args, **settings)

    def replace(self, **changes: Any) -> Self:
        """Return the options with some values changed, checked as new ones. Raise `ValueError` for a wrong name or value."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**values, **changes})

    def describe(self, option: str) -> str:
        """Return an option with its value for a message, such as `floor is 0.01 (the default)`."""
        value = json.dumps(json_value(getattr(self, option), option), ensure_ascii=False)
        text = f"{option} is {value}"
        if option in self.model_fields_set:
            return text
        return f"{text} (the default)"


def options_json(options: BaseModel) -> dict[str, Any]:
    """Return all options as JSON for keys, with validated values: 1 in a field of type float is 1.0.

    Raise `PluginError` if a value cannot be in a key, or if options that are read back from the JSON differ.
    """
    written = model_json(options)
    reread = model_json(_read_back(type(options), canonical_json(written)))
    difference = first_difference(written, reread)
    if difference:
        raise PluginError(f"option {difference}; a validator must leave what it has accepted as it is")
    return reread


def options_from_json(model: type[BaseModel], values: Any) -> Any:
    """Return the options with the JSON `values` of `options_json`; raise `PluginError` if they do not fit the model."""
    return _read_back(model, canonical_json(values))


def changed_options(options: BaseModel) -> dict[str, Any]:
    """Return the options that differ from their defaults, as JSON."""
    changed = options_json(options)
    for name, field in type(options).model_fields.items():
        if field.is_required():
            continue
        default = json_value(field.get_default(call_default_factory=True), name)
        if changed[name] == default:
            del changed[name]
    return changed


def first_difference(before: Any, after: Any, where: str = "") -> str:
    """Return the first difference of two JSON values, such as `'depth': 3 would come back as 4`; "" if they are equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{where}.{name}".lstrip(".")
            difference = first_difference(before.get(name, _MISSING), after.get(name, _MISSING), inner)
            if difference:
                return difference
        return ""
    if before == after:
        return ""
    return f"'{where}': {_shown(before)} would come back as {_shown(after)}"


_MISSING = object()


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    return canonical_json(value)[:60]


@lru_cache(maxsize=1024)
def _read_back(model: type[BaseModel], text: str) -> BaseModel:
    try:
        return validated(model, json.loads(text))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in detail["loc"])
        subject = "the options"
        if where:
            subject = f"option '{where}': {detail['input']!r:.60}"
        raise PluginError(f"{subject} cannot be read back from a key: {detail['msg']}") from None
