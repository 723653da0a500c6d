"""YAML values → the shapes that strict fields accept: a list becomes the tuple or set of a field, a text an enum's member.

Nothing is converted that changes a meaning: "10" does not become 10.
"""

from __future__ import annotations

from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

_BOOLEAN_WORDS = {"yes": True, "on": True, "no": False, "off": False}
_COLLECTIONS = (tuple, list, set, frozenset)


def coerce(value: Any, annotation: Any) -> Any:
    """Return a YAML value in the shape of a field's type. A value that does not fit is returned as it is."""
    kind = get_origin(annotation) or annotation
    arguments = get_args(annotation)
    if kind is Annotated:
        return coerce(value, arguments[0])
    if kind in (Union, UnionType):
        return _coerce_to_union(value, arguments)
    if kind is bool and isinstance(value, str):
        return _BOOLEAN_WORDS.get(value.lower(), value)
    if kind in _COLLECTIONS and isinstance(value, list):
        return _coerce_list(value, kind, arguments)
    if kind is dict and isinstance(value, dict) and arguments:
        return {key: coerce(item, arguments[1]) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict):
        return _coerce_to_model(value, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _coerce_to_enum(value, kind)
    return value


def _coerce_to_union(value: Any, types: tuple[Any, ...]) -> Any:
    """Return a value in the shape of the first type that changes it. A text stays a text where texts are allowed."""
    if isinstance(value, str) and str in types:
        return value
    for candidate in types:
        coerced = coerce(value, candidate)
        if coerced is not value:
            return coerced
    return value


def _coerce_list(values: list[Any], collection: type, arguments: tuple[Any, ...]) -> Any:
    item_types = _item_types(collection, arguments, len(values))
    items = [coerce(item, item_type) for item, item_type in zip(values, item_types)]
    try:
        return collection(items)
    except TypeError:  # a set of mappings
        return values


def _item_types(collection: type, arguments: tuple[Any, ...], count: int) -> list[Any]:
    """Return the types of a collection's first items; `Any` for those that its annotation does not mention."""
    if collection is tuple and arguments[1:] != (...,):
        return [*arguments, *([Any] * count)][:count]
    item_type = arguments[0] if arguments else Any
    return [item_type] * count


def _coerce_to_model(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    coerced = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        coerced[key] = value if field is None else coerce(value, field.annotation)
    return coerced


def _coerce_to_enum(value: Any, choices: type[Enum]) -> Any:
    for member in choices:
        if type(member.value) is type(value) and member.value == value:
            return member
    return value
