"""Names → plugins: what is registered, by whom. Duplicates and unknown names are refused, with the alternatives."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.api import interfaces
from harness.api.builder import EnsembleBuilder
from harness.api.engine import Engine
from harness.api.figure import Figure
from harness.api.options import Options, first_difference, options_from_json
from harness.api.plugin import Plugin, full_name
from harness.errors import PluginError, UnknownName, did_you_mean
from harness.registry.discovery import Discovery, Source, discover
from harness.telemetry.events import Event
from harness.text import describe_error

KINDS: dict[str, tuple[str, type[Plugin]]] = {
    "ensemble_builder": ("register_ensemble_builders", EnsembleBuilder),
    "architecture": ("register_architectures", interfaces.Architecture),
    "dataset": ("register_datasets", interfaces.Dataset),
    "metric": ("register_metrics", interfaces.Metric),
    "objective": ("register_objectives", interfaces.Objective),
    "derivation": ("register_derivations", interfaces.Derivation),
    "engine": ("register_engines", Engine),
    "figure": ("register_figures", Figure),
}
WORDS = {"ensemble_builder": "method"}
"""What a kind is called in messages, where it is not simply its name."""


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class Registration:
    """A plugin class, its kind, its name and who registered it."""

    kind: str
    name: str
    cls: type[Plugin]
    source: Source


class Catalogue:
    """All registered plugins by kind and name.

    A family's name ends in `/<…>`: `timm/<name>` answers to `timm/` followed by anything.
    """

    def __init__(
        self,
        registrations: list[Registration],
        problems: tuple[str, ...] = (),
        observers: Mapping[str, Observer] | None = None,
        sources: Iterable[Source] = (),
    ) -> None:
        self.problems, self.observers = problems, dict(observers or {})
        found = {*sources, *(new.source for new in registrations)}
        self.sources = tuple(sorted(found, key=lambda source: source.plugin))
        """The loaded plugins, also those that only observe events."""
        self._by_name: dict[tuple[str, str], Registration] = {}
        for new in registrations:
            old = self._by_name.setdefault((new.kind, new.name), new)
            if old is not new:
                raise PluginError(
                    f"{_word(new.kind)} '{new.name}' is registered twice, by {old.source} and by {new.source}; "
                    f"uninstall one, or leave it out with HARNESS_DISABLED_PLUGINS={new.source.plugin}"
                )

    def __iter__(self) -> Iterator[Registration]:
        return iter(sorted(self._by_name.values(), key=lambda r: (list(KINDS).index(r.kind), r.name)))

    def in_order(self, kind: str) -> list[Registration]:
        """Return the registrations of a kind in the order in which plugins made them, plugins by name."""
        return [registration for registration in self._by_name.values() if registration.kind == kind]

    def names(self, kind: str) -> list[str]:
        """Return the registered names of a kind, sorted."""
        return sorted(name for k, name in self._by_name if k == kind)

    def defaults(self, kind: str) -> list[str]:
        """Return the names of the metrics, or objectives, that benchmarks use if they name none, in registration order."""
        return [registration.name for registration in self.in_order(kind) if vars(registration.cls).get("default", False)]

    def registration(self, kind: str, name: str) -> Registration:
        """Return who registered a name; raise `UnknownName` with the nearest ones."""
        if (kind, name) in self._by_name:
            return self._by_name[kind, name]
        for (k, family), registration in self._by_name.items():
            stem = _stem(family)
            if k == kind and stem and name.startswith(stem) and len(name) > len(stem):
                return registration
        raise UnknownName(f"unknown {_word(kind)} '{name}'{did_you_mean(name, self.names(kind))}")

    def get(self, kind: str, name: str) -> type[Plugin]:
        """Return the plugin class of a name (a family's, for a member of it)."""
        return self.registration(kind, name).cls

    def create(self, kind: str, name: str, options: Options | None = None) -> Any:
        """Return a plugin instance; a family's knows its variant."""
        cls = self.get(kind, name)
        plugin = cls(options)
        if isinstance(plugin, interfaces.Architecture) and _stem(cls.name):
            plugin.variant = name[len(_stem(cls.name)) :]
        return plugin

    def check_variant(self, name: str) -> None:
        """Raise `UnknownName` if an architecture family knows no such variant (families may import their library for it)."""
        cls = self.get("architecture", name)
        stem = _stem(cls.name)
        if stem and isinstance(cls, type) and issubclass(cls, interfaces.Architecture):
            known = [stem + variant for variant in cls.variants()]
            if known and name.split(".")[0] not in known and name not in known:
                raise UnknownName(f"unknown architecture '{name}'{did_you_mean(name, known)}")

    def from_identity(self, kind: str, identity: dict[str, Any]) -> Any:
        """Return the plugin that an identity (as in keys and task files) describes.

        Refuse another version or options, and a plugin whose identity would be another. What an identity holds beyond that of
        an unlocated plugin (the digest of a file, say) is for `check_identity`.
        """
        name = full_name(identity)
        cls = self.get(kind, name)
        if cls.version != identity["version"]:
            raise PluginError(
                f"{_word(kind)} '{name}': version {cls.version} is installed, the task needs {identity['version']}"
            )
        try:
            options = options_from_json(cls.Options, identity["options"])
            plugin = self.create(kind, name, options)
            known = {key: identity[key] for key in identity if key in plugin.identity}
            difference = first_difference(known, plugin.identity)
        except PluginError as error:
            raise PluginError(f"{_word(kind)} '{name}': the task's options do not fit the plugin installed: {error}") from None
        if difference:
            raise PluginError(f"{_word(kind)} '{name}': the plugin installed differs from the task's: {difference}")
        return plugin


def load_catalogue(discovery: Discovery | None = None) -> Catalogue:
    """Ask every plugin for what it registers.

    One that raises, or registers what is no plugin of the kind, is left out and named.
    """
    found = discover() if discovery is None else discovery
    registrations: list[Registration] = []
    problems = list(found.problems)
    loaded: list[Source] = []
    for source in found.sources.values():
        mine: list[Registration] = []
        others = [p for p in found.manager.get_plugins() if found.manager.get_name(p) != source.plugin]
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no output of a command
                for kind, (hook, base) in KINDS.items():
                    found.manager.subset_hook_caller(hook, others)(register=_registrar(kind, base, source, mine))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # plugins are code: whatever they raise, an exit too, the others stay usable
            problems.append(f"{source} cannot register: {describe_error(error)}")
        else:
            registrations += mine
            loaded.append(source)
    observers: dict[str, Observer] = {}
    for impl in found.manager.hook.observe_event.get_hookimpls():
        others = [p for p in found.manager.get_plugins() if p is not impl.plugin]
        hook_caller = found.manager.subset_hook_caller("observe_event", others)
        observers[str(found.sources[impl.plugin_name])] = partial(_show, hook_caller)
    return Catalogue(registrations, tuple(problems), observers, loaded)


def _show(hook_caller: Any, event: Event) -> None:
    hook_caller(event=event)


def _registrar(kind: str, base: type[Plugin], source: Source, into: list[Registration]) -> Callable[[type], None]:
    return partial(_register, kind, base, source, into)


def _register(kind: str, base: type[Plugin], source: Source, into: list[Registration], cls: type) -> None:
    """Check that a class is a whole plugin of its kind, and note it."""
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(f"{KINDS[kind][0]}: {cls!r} is not a subclass of harness.{base.__name__}")
    if inspect.isabstract(cls):
        raise PluginError(f"{KINDS[kind][0]}: {cls.__name__} does not define {', '.join(sorted(cls.__abstractmethods__))}")
    name, version = getattr(cls, "name", None), cls.version
    if not (isinstance(name, str) and name.isprintable() and name.strip() == name and 0 < len(name) <= 100):
        raise PluginError(f"{KINDS[kind][0]}: {cls.__name__}.name is {name!r}; a printable text of 1 to 100 characters")
    if type(version) is not int or version < 1:
        raise PluginError(f"{KINDS[kind][0]}: {cls.__name__}.version is {version!r}; a whole number from 1")
    if not (isinstance(cls.Options, type) and issubclass(cls.Options, Options)):
        raise PluginError(f"{KINDS[kind][0]}: {cls.__name__}.Options is {cls.Options!r}; a subclass of harness.Options")
    taken = {"label", "grid"} & cls.Options.model_fields.keys()
    if taken:
        raise PluginError(f"{KINDS[kind][0]}: {cls.__name__} has an option '{min(taken)}'; benchmark files reserve that name")
    into.append(Registration(kind, name, cls, source))


def _word(kind: str) -> str:
    return WORDS.get(kind, kind)


def _stem(name: str) -> str:
    """Return `timm/` for `timm/<name>`, and nothing for a plain name."""
    return name.split("<")[0] if name.endswith(">") and "/<" in name else ""
