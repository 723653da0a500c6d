"""Convert values of options to JSON for keys, rows and task files.

Equal values have equal JSON in every process and on every platform: sets are sorted, paths are in POSIX form, NumPy
scalars are plain numbers. A value of any other type is refused with the type's name.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, PlainSerializer, RootModel, WrapSerializer
from pydantic_core import to_jsonable_python

from harness.api.scalars import without_numpy
from harness.api.task import canonical_json
from harness.errors import PluginError

_ALLOWED = "numbers, texts, paths, dates, enumerations, models, lists, sets and mappings of them can"


def json_value(value: Any, where: str = "") -> Any:
    """Return the JSON of an option's value. `where` names the option in messages, such as `sizes[1].depth`.

    1 and 1.0 have different JSON, since a field of type `int | float` may distinguish them. Raise `PluginError` for a
    value that cannot be in a key: NaN, an infinity, or a value of a type without a JSON form.
    """
    value = without_numpy(value)
    if isinstance(value, Enum):
        return json_value(value.value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite(value, where)
    if isinstance(value, str):
        return str.__str__(value)
    for text_type, to_text in _TEXTS:
        if isinstance(value, text_type):
            return to_text(value, where)
    return _collection(value, where)


def model_json(model: BaseModel, where: str = "") -> dict[str, Any]:
    """Return every field of a model as JSON, including defaults and fields that pydantic excludes from its own JSON."""
    written = {}
    for name in type(model).model_fields:
        written[name] = _field_json(model, name, _joined(where, name))
    for name, value in (model.model_extra or {}).items():
        written[name] = json_value(value, _joined(where, name))
    return written


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}".lstrip(".")


def _field_json(model: BaseModel, name: str, where: str) -> Any:
    """Return a field's JSON: the output of the field's serializer if it has one."""
    value = getattr(model, name)
    if name not in _fields_with_serializers(type(model)):
        return json_value(value, where)
    written = model.model_dump(mode="json", include={name})[name]
    if isinstance(value, (set, frozenset)):
        return _sorted_items(written)
    return written


@lru_cache(maxsize=256)
def _fields_with_serializers(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that have a serializer of their own."""
    found: set[str] = set()
    for decorator in model.__pydantic_decorators__.field_serializers.values():
        named = decorator.info.fields
        found.update(model.model_fields if "*" in named else named)
    for name, field in model.model_fields.items():
        if any(isinstance(item, (PlainSerializer, WrapSerializer)) for item in field.metadata):
            found.add(name)
    return frozenset(found)


def _collection(value: Any, where: str) -> Any:
    """Return the JSON of a value that contains other values."""
    if isinstance(value, RootModel):
        return json_value(value.root, where)
    if isinstance(value, BaseModel):
        return model_json(value, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        written = {}
        for field in dataclasses.fields(value):
            written[field.name] = json_value(getattr(value, field.name), f"{where}.{field.name}")
        return written
    if isinstance(value, Mapping):
        return _mapping(value, where)
    if isinstance(value, (set, frozenset)):
        return _sorted_items(json_value(item, where) for item in value)
    if isinstance(value, (list, tuple, deque)):
        return [json_value(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise _refused(where, f"a value of type {type(value).__qualname__} cannot be in a key; {_ALLOWED}")


def _mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, item in value.items():
        text = _key_text(key, where)
        if text in written:
            raise _refused(where, f"two of its keys are written '{text}'; keys must differ as texts")
        written[text] = json_value(item, f"{where}.{text}")
    return dict(sorted(written.items()))


def _key_text(key: Any, where: str) -> str:
    written = json_value(key, where)
    if isinstance(written, str):
        return written
    if isinstance(written, (bool, int, float)):
        return canonical_json(written)
    raise _refused(where, f"a key {key!r:.60} cannot be in a key; texts and numbers can")


def _sorted_items(items: Iterable[Any]) -> list[Any]:
    """Return the items of a set: numbers by value, then all other items by their JSON text."""
    return sorted(items, key=_sort_key)


def _sort_key(item: Any) -> tuple[int, float, str]:
    is_number = isinstance(item, (int, float)) and not isinstance(item, bool)
    if is_number:
        return 0, item, ""
    return 1, 0, canonical_json(item)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise _refused(where, f"{float(value)} cannot be in a key; a finite number can")
    return float(value) + 0.0  # -0.0 equals 0.0


def _path(value: PurePath, where: str) -> str:
    return value.as_posix()


def _datetime(value: datetime, where: str) -> str:
    """Return ISO 8601. Aware datetimes are converted to UTC, since datetimes of several time zones can be equal."""
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(value: time, where: str) -> str:
    if value.tzinfo is not None:
        raise _refused(where, f"the time {value} with a time zone cannot be in a key; one without can")
    return value.isoformat()


def _decimal(value: Decimal, where: str) -> str:
    """Return the digits without trailing zeros, since 1.50 equals 1.5."""
    if not value.is_finite():
        raise _refused(where, f"{value} cannot be in a key; a finite number can")
    shortest = value.normalize(Context(prec=max(1, len(value.as_tuple().digits))))
    return str(shortest) if shortest else "0"


def _complex(value: complex, where: str) -> str:
    parts = complex(_finite(value.real, where), _finite(value.imag, where))
    return str(to_jsonable_python(parts))


def _bytes(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _refused(where, "bytes that are not UTF-8 cannot be in a key; texts can") from None


def _plain(value: date | UUID, where: str) -> str:
    return str(value)


def _duration(value: timedelta, where: str) -> str:
    return str(to_jsonable_python(value))


_TEXTS: tuple[tuple[type, Callable[[Any, str], str]], ...] = (
    (PurePath, _path),
    (datetime, _datetime),  # before date, its base class
    (date, _plain),
    (time, _time),
    (timedelta, _duration),
    (UUID, _plain),
    (Decimal, _decimal),
    (complex, _complex),
    (bytes, _bytes),
)


def _refused(where: str, text: str) -> PluginError:
    if not where:
        return PluginError(text)
    return PluginError(f"option '{where}': {text}")
