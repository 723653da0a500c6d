"""The base class of specs: one JSON form per value, from which keys are computed.

A plan holds some specs per task. They are dataclasses with slots, which take a quarter of the memory of pydantic models and a
fraction of their time. pydantic validates what is read from JSON.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

from pydantic import ConfigDict

Identity: TypeAlias = dict[str, Any]
"""A plugin's name, version and options as JSON, and further fields for some kinds of plugins."""

StreamName: TypeAlias = tuple[str | int, ...]
"""The name of a random stream (see `harness.streams`)."""


class Spec:
    """A frozen value with a JSON form. Subclasses are dataclasses with slots and at least two fields."""

    __slots__: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # of what is read from JSON
    renamed: ClassVar[dict[str, str]] = {}
    """The names in JSON of fields that are named otherwise there."""
    nested: ClassVar[tuple[str, ...]] = ()
    """The names in JSON of fields that hold specs or tuples of specs."""
    _names: ClassVar[tuple[str, ...]]
    _values: ClassVar[attrgetter[tuple[Any, ...]]]

    def __init_subclass__(cls) -> None:
        """Note the fields, once the dataclass has given them slots."""
        if cls.__slots__:
            cls._names = tuple(cls.renamed.get(name, name) for name in cls.__slots__)
            cls._values = attrgetter(*cls.__slots__)

    def to_json(self) -> dict[str, Any]:
        """Return the value's JSON. Equal values have equal JSON. Do not change what is nested in it: the value shares it."""
        written: dict[str, Any] = dict(zip(self._names, self._values(self)))
        for name in self.nested:
            written[name] = _nested_json(written[name])
        return written


def _nested_json(value: Spec | tuple[Spec, ...] | None) -> Any:
    if value is None:
        return None
    if isinstance(value, Spec):
        return value.to_json()
    return tuple(item.to_json() for item in value)
