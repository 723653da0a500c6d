"""The base class of all plugins. Importing this module does not import torch."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from harness.api.options import Options, options_json


def full_name(identity: Mapping[str, Any]) -> str:
    """Return a plugin's name for messages: the registered name, or in a family the member's name.

    An identity with name `timm/<name>` and variant `resnet18` gives `timm/resnet18`.
    """
    name: str = identity["name"]
    variant = identity.get("variant")
    if not variant:
        return name
    return name[: name.rindex("<")] + variant


AnyOptions: TypeAlias = Options
"""Alias of `Options`. Within a plugin class, `Options` is the class attribute."""


class Plugin(ABC):
    """Base class of all plugins.

    `name` is the registered name. `version` is part of every key: raise it when a change of the code changes results.
    `Options` is a subclass of `harness.Options`; its fields are the plugin's options in a benchmark file, and
    `harness list` shows them with their defaults and descriptions. `self.options` is an instance of it. Two plugins
    with equal identities must produce equal results.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type[AnyOptions]] = AnyOptions
    chosen: Mapping[str, Any] = MappingProxyType({})
    """The plugins that options name, by option; the catalogue sets them."""

    def __init__(self, options: AnyOptions | None = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The part of a key that describes this plugin: name, version and all options, including defaults.

        Plugins that the options name add their own identities.
        """
        own = {"name": self.name, "version": self.version, "options": options_json(self.options)}
        if self.chosen:
            own["chosen"] = {option: plugin.identity for option, plugin in self.chosen.items()}
        return own

    @property
    def full_name(self) -> str:
        """The name used in messages; by default the registered name."""
        return self.name
