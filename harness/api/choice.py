"""Options that name another plugin: `repair`, or `{repair: {before_normalization: true}}` with that plugin's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, WithJsonSchema


def _with_options(choice: Any) -> Any:
    """Return a choice with {} for options that are null: a name with a colon and nothing below it, as YAML writes it.

    Raise `ValueError` for options that are no mapping.
    """
    if not isinstance(choice, dict):
        return choice
    given = {}
    for name, options in choice.items():
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"{name}: {options!r:.80} is not a mapping; options, such as {{key: value}}, or the name alone")
        given[name] = options or {}
    return given


_OPTIONS = {"anyOf": [{"type": "object"}, {"type": "null"}]}
_ENTRY = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": _OPTIONS}

PluginChoice = Annotated[
    str | dict[str, dict[str, Any]],
    BeforeValidator(_with_options),
    WithJsonSchema({"anyOf": [{"type": "string"}, _ENTRY]}),
]
"""A registered name, or a mapping of one registered name to options; null options are the defaults, as in a file's lists.

Give the field `json_schema_extra={"plugin": kind}`.
"""

_MARK = "plugin"


def chosen_kinds(model: type[BaseModel]) -> dict[str, str]:
    """Return the options of a model that name another plugin, with its kind."""
    kinds = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and _MARK in extra:
            kinds[name] = str(extra[_MARK])
    return kinds


def split_choice(choice: PluginChoice) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the options of a choice. Raise `ValueError` for a mapping of several names, or of none."""
    if isinstance(choice, str):
        return choice, {}
    if len(choice) != 1:
        raise ValueError(f"{choice!r:.80} names {len(choice)} plugins; one name, or 'name: {{option: value}}'")
    [(name, options)] = choice.items()
    return name, options
