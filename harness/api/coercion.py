"""Convert plain values of YAML or JSON to the Python types of strict fields: a list to a tuple, a string to a path.

Only unambiguous conversions are made: "10" does not become 10. A value that cannot be converted is returned unchanged, and
the strict field rejects it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter, ValidationError

from harness.api.json_values import json_value
from harness.errors import PluginError

_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}
_UNCONVERTED = (str, int, float, NoneType, Any, object)

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Any) -> _Model:
    """Return a model with plain values; raise pydantic's `ValidationError` if they do not fit."""
    return model.model_validate(coerced(values, model))


def coerced(value: Any, expected: Any) -> Any:
    """Return a plain value converted to the type `expected` of a strict field, or unchanged."""
    expected = getattr(expected, "__supertype__", getattr(expected, "__value__", expected))  # a NewType, a type alias
    origin = get_origin(expected) or expected
    arguments = get_args(expected)
    if origin is Annotated:
        return coerced(value, arguments[0])
    if origin in (Union, UnionType):
        return _to_union(value, arguments)
    if origin is Literal:
        return _to_choice(value, arguments)
    if origin is bool:
        return _to_bool(value)
    if origin in _UNCONVERTED:
        return value
    if isinstance(value, list) and origin in (tuple, list, set, frozenset):
        return _to_collection(value, origin, arguments)
    if isinstance(value, dict) and origin is dict and arguments:
        return _to_dict(value, *arguments)
    if isinstance(origin, type) and issubclass(origin, RootModel):
        return coerced(value, origin.model_fields["root"].annotation)
    if isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, BaseModel):
        return _to_model_values(value, origin)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _to_choice(value, tuple(origin))
    return _from_json(value, expected)


def _to_bool(value: Any) -> Any:
    if isinstance(value, str):
        return _BOOLEANS.get(value.lower(), value)
    return value


def _to_model_values(values: dict[Any, Any], model: type[BaseModel]) -> dict[Any, Any]:
    """Return the values of a model's fields, converted; other keys are kept for the model to reject."""
    converted = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        converted[name] = value if field is None else coerced(value, field.annotation)
    return converted


def _to_union(value: Any, alternatives: Sequence[Any]) -> Any:
    """Return the value converted to the first alternative that accepts it; alternatives that need no conversion are first."""
    unchanged: list[tuple[Any, Any]] = []
    changed: list[tuple[Any, Any]] = []
    for alternative in alternatives:
        converted = coerced(value, alternative)
        if converted is value:
            unchanged.append((alternative, converted))
        else:
            changed.append((alternative, converted))
    for alternative, converted in (*unchanged, *changed):
        if _accepts(alternative, converted):
            return converted
    if not changed:
        return value
    _, converted = changed[0]
    return converted


def _accepts(expected: Any, value: Any) -> bool:
    """Return whether a strict field of a type accepts a value."""
    try:
        if isinstance(expected, type) and issubclass(expected, BaseModel):
            expected.model_validate(value)
        else:
            _adapter(expected).validate_python(value, strict=True)
    except (ValidationError, PydanticUserError, TypeError):
        return False
    return True


def _to_choice(value: Any, choices: Sequence[Any]) -> Any:
    """Return the enumeration member among the choices that is written as a plain value; else the value."""
    for choice in choices:
        if isinstance(choice, Enum) and _is_written_as(choice, value):
            return choice
    return value


def _is_written_as(member: Enum, value: Any) -> bool:
    try:
        written = json_value(member.value)
    except PluginError:  # a value without a JSON form
        return False
    return type(written) is type(value) and written == value


def _to_collection(value: list[Any], origin: Any, arguments: Sequence[Any]) -> Any:
    """Return a list as a tuple, list, set or frozenset with converted items."""
    if origin is tuple and arguments[1:] != (...,):
        surplus = max(0, len(value) - len(arguments))
        types = [*arguments, *itertools.repeat(Any, surplus)]
    else:
        item_type = arguments[0] if arguments else Any
        types = [item_type] * len(value)
    items = [coerced(item, item_type) for item, item_type in zip(value, types, strict=False)]
    try:
        return origin(items)
    except TypeError:  # a set of mappings
        return value


def _to_dict(value: dict[Any, Any], key_type: Any, value_type: Any) -> dict[Any, Any]:
    """Return a mapping with converted keys and values; keys stay if two of them would become equal."""
    converted = {key: coerced(item, value_type) for key, item in value.items()}
    if key_type is str:
        return converted
    keys = _from_json(dict.fromkeys(converted), dict[key_type, None])
    if len(keys) != len(converted):
        return converted
    return dict(zip(keys, converted.values(), strict=True))


def _from_json(value: Any, expected: Any) -> Any:
    """Return a value as pydantic reads it from JSON into a type, or unchanged if pydantic rejects it."""
    try:
        return _adapter(expected).validate_json(json.dumps(value), strict=True)
    except (ValidationError, PydanticUserError, TypeError, ValueError):
        return value


@lru_cache(maxsize=256)
def _adapter(expected: Any) -> TypeAdapter[Any]:
    return TypeAdapter(expected)
