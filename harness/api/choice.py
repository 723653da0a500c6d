"""Options that name another plugin: `repair`, or `{repair: {before_normalization: true}}` with that plugin's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

PluginChoice = str | dict[str, dict[str, Any]]
"""A registered name, or a mapping of one registered name to options. Give the field `json_schema_extra={"plugin": kind}`."""

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
