"""The base of every plugin kind. Importing this file costs no torch.

A plugin is a class with a `name`, a `version` (raise it when results change: it is part of every key) and `Options`, a frozen
pydantic model whose fields and defaults `harness list` shows and whose values a benchmark file gives.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

from harness.api.options import Options, options_json


def full_name(identity: Mapping[str, Any]) -> str:
    """Return how messages call the plugin with an identity: its registered name, with the variant in a family's."""
    name: str = identity["name"]
    return name[: name.rindex("<")] + identity["variant"] if identity.get("variant") else name


AnyOptions: TypeAlias = Options
"""`Options` under a name that plugin classes, which have an `Options` of their own, do not hide."""


class Plugin(ABC):
    """Base of every kind: a name, a version and options. Two plugins of equal identity produce equal results."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type[AnyOptions]] = AnyOptions

    def __init__(self, options: AnyOptions | None = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of this plugin goes into keys: name, version and every option, defaults filled in."""
        return {"name": self.name, "version": self.version, "options": options_json(self.options)}

    @property
    def full_name(self) -> str:
        """How messages call the plugin; `name` is what it is registered under."""
        return self.name
