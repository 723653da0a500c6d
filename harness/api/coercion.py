"""Plain values (of YAML or JSON) → the Python values that strict fields want: a list becomes a tuple, a text a path.

Nothing is converted that a reader could take for another value: "10" does not become 10. What does not fit is left as it is,
for the field to refuse.
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

_SWITCH = {"yes": True, "on": True, "no": False, "off": False}
_AS_THEY_ARE = (str, int, float, NoneType, Any, object)

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Any) -> _Model:
    """Return plain values as a model; raise pydantic's `ValidationError` for what does not fit."""
    return model.model_validate(coerced(values, model))


def coerced(value: Any, wanted: Any) -> Any:
    """Return a plain value in the shape that a strict field of the type `wanted` takes."""
    wanted = getattr(wanted, "__supertype__", getattr(wanted, "__value__", wanted))  # of NewType, of a type alias
    origin, inner = get_origin(wanted) or wanted, get_args(wanted)
    if origin is Annotated:
        return coerced(value, inner[0])
    if origin in (Union, UnionType):
        return _of_union(value, inner)
    if origin is Literal:
        return _of_choices(value, inner)
    if origin is bool:
        return _SWITCH.get(value.lower(), value) if isinstance(value, str) else value
    if origin in _AS_THEY_ARE:
        return value
    if isinstance(value, list) and origin in (tuple, list, set, frozenset):
        return _of_items(value, origin, inner)
    if isinstance(value, dict) and origin is dict and inner:
        return _of_mapping(value, *inner)
    if isinstance(origin, type) and issubclass(origin, RootModel):
        return coerced(value, origin.model_fields["root"].annotation)
    if isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, BaseModel):
        fields = origin.model_fields
        return {key: coerced(item, fields[key].annotation) if key in fields else item for key, item in value.items()}
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _of_choices(value, tuple(origin))
    return _read(value, wanted)


def _of_union(value: Any, arms: Sequence[Any]) -> Any:
    """Return the value as it is, if an arm takes it so; else in the shape of the first arm that takes it then."""
    shapes = [(arm, coerced(value, arm)) for arm in arms]
    unchanged = [(arm, shape) for arm, shape in shapes if shape is value]
    changed = [(arm, shape) for arm, shape in shapes if shape is not value]
    for arm, shape in (*unchanged, *changed):
        if _takes(arm, shape):
            return shape
    return changed[0][1] if changed else value


def _takes(arm: Any, value: Any) -> bool:
    """Say whether a strict field of a type takes a value."""
    try:
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            arm.model_validate(value)
        else:
            _adapter(arm).validate_python(value, strict=True)
    except (ValidationError, PydanticUserError, TypeError):
        return False
    return True


def _of_choices(value: Any, choices: Sequence[Any]) -> Any:
    """Return the member of an enumeration that a plain value stands for."""
    for choice in choices:
        if isinstance(choice, Enum) and _stands_for(value, choice):
            return choice
    return value


def _stands_for(value: Any, member: Enum) -> bool:
    try:
        written = json_value(member.value)
    except PluginError:  # a value that no file can hold
        return False
    return type(written) is type(value) and written == value


def _of_items(value: list[Any], origin: Any, inner: Sequence[Any]) -> Any:
    if origin is tuple and inner[1:] != (...,):
        kinds = [*inner, *itertools.repeat(Any, max(0, len(value) - len(inner)))]
    else:
        kinds = [inner[0] if inner else Any] * len(value)
    items = [coerced(item, kind) for item, kind in zip(value, kinds, strict=False)]
    try:
        return origin(items)
    except TypeError:  # a set of mappings
        return value


def _of_mapping(value: dict[Any, Any], key: Any, item: Any) -> dict[Any, Any]:
    shaped = {name: coerced(inner, item) for name, inner in value.items()}
    if key is str:
        return shaped
    names = _read(dict.fromkeys(shaped), dict[key, None])
    return dict(zip(names, shaped.values(), strict=True)) if len(names) == len(shaped) else shaped


def _read(value: Any, wanted: Any) -> Any:
    """Return a value as pydantic reads it from JSON into a type, or as it is where it does not."""
    try:
        return _adapter(wanted).validate_json(json.dumps(value), strict=True)
    except (ValidationError, PydanticUserError, TypeError, ValueError):
        return value


@lru_cache(maxsize=256)
def _adapter(wanted: Any) -> TypeAdapter[Any]:
    return TypeAdapter(wanted)
