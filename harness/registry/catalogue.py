"""The registered plugins by kind and name. Errors about unknown names list the alternatives."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pluggy

from harness.api import interfaces
from harness.api.alignment import Alignment
from harness.api.builder import EnsembleBuilder
from harness.api.choice import PluginChoice, chosen_kinds, split_choice
from harness.api.correction import Correction
from harness.api.coupling import Coupling
from harness.api.derivation import Derivation
from harness.api.engine import Engine
from harness.api.evaluation_set import EvaluationSet
from harness.api.figure import Figure
from harness.api.observer import Observer as ObserverPlugin
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
    "derivation": ("register_derivations", Derivation),
    "engine": ("register_engines", Engine),
    "figure": ("register_figures", Figure),
    "observer": ("register_observers", ObserverPlugin),
    "correction": ("register_corrections", Correction),
    "coupling": ("register_couplings", Coupling),
    "evaluation_set": ("register_evaluation_sets", EvaluationSet),
}
SUBSETS: dict[str, tuple[str, type[Plugin]]] = {"alignment": ("derivation", Alignment)}
"""What options can choose beside the kinds: the plugins of a kind that are of a class."""
WORDS = {"ensemble_builder": "method", "evaluation_set": "evaluation set"}
"""Names of kinds in messages, where they differ from the kind."""
_RESERVED_OPTIONS = {"label", "grid"}  # keys of an entry in a benchmark file

Observer = Callable[[Event], None]
"""A function that is called with every event of a run."""


@dataclass(frozen=True)
class Registration:
    """A plugin class with its kind, its registered name and the source that registered it."""

    kind: str
    name: str
    cls: type[Plugin]
    source: Source


class Catalogue:
    """All registered plugins by kind and name.

    `problems` has a line per plugin that could not be used. `observers` are the plugins' event observers by source.
    A name that ends in `/<…>` registers a family: `timm/<name>` matches `timm/` followed by any variant. Raise `PluginError`
    if two plugins register one name.
    """

    def __init__(
        self,
        registrations: list[Registration],
        problems: tuple[str, ...] = (),
        observers: Mapping[str, Observer] | None = None,
        sources: Iterable[Source] = (),
    ) -> None:
        self.problems = problems
        self.observers = dict(observers or {})
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
        kinds = list(KINDS)

        def order(registration: Registration) -> tuple[int, str]:
            return kinds.index(registration.kind), registration.name

        return iter(sorted(self._by_name.values(), key=order))

    def in_order(self, kind: str) -> list[Registration]:
        """Return the registrations of a kind in registration order: plugins by name, each one's in its own order."""
        return [registration for registration in self._by_name.values() if registration.kind == kind]

    def names(self, kind: str) -> list[str]:
        """Return the registered names of a kind, sorted."""
        return sorted(name for k, name in self._by_name if k == kind)

    def defaults(self, kind: str) -> list[str]:
        """Return the names of a kind that are marked as defaults for benchmarks that name none, in registration order.

        Metrics and objectives have such a mark, the class attribute `default`. Subclasses do not inherit it.
        """
        marked = [registration for registration in self.in_order(kind) if vars(registration.cls).get("default", False)]
        return [registration.name for registration in marked]

    def registration(self, kind: str, name: str) -> Registration:
        """Return the registration of a name, or of the family that contains it.

        Raise `UnknownName` with similar names if there is none.
        """
        if (kind, name) in self._by_name:
            return self._by_name[kind, name]
        for registration in self._by_name.values():
            prefix = _family_prefix(registration.name)
            if registration.kind == kind and prefix and name.startswith(prefix) and len(name) > len(prefix):
                return registration
        raise UnknownName(f"unknown {_word(kind)} '{name}'{did_you_mean(name, self.names(kind))}")

    def get(self, kind: str, name: str) -> type[Plugin]:
        """Return the plugin class that is registered under a name, or whose family contains it."""
        return self.registration(kind, name).cls

    def create(self, kind: str, name: str, options: Options | None = None) -> Any:
        """Return a plugin instance, with the plugins that its options name. For a member of a family, its `variant` is set.

        Raise `UserError` for an option that names an unknown plugin, or gives it options that do not fit.
        """
        cls = self.get(kind, name)
        plugin = cls(options)
        chosen = {}
        for option, chosen_kind in chosen_kinds(cls.Options).items():
            choice = getattr(plugin.options, option)
            if choice is not None:
                chosen[option] = self.choose(chosen_kind, choice)
        if chosen:
            plugin.chosen = chosen
        prefix = _family_prefix(cls.name)
        if isinstance(plugin, interfaces.Architecture) and prefix:
            plugin.variant = name.removeprefix(prefix)
        return plugin

    def choose(self, kind: str, choice: PluginChoice) -> Any:
        """Return the plugin that an option names: a registered name, or a mapping of one to options.

        Raise `UserError` for an unknown name, and for options that do not fit.
        """
        try:
            name, values = split_choice(choice)
        except ValueError as error:
            raise PluginError(str(error)) from None
        cls = self.choice_class(kind, name)
        try:
            options = options_from_json(cls.Options, dict(values))
        except PluginError as error:
            raise PluginError(f"{_word(kind)} '{name}': {error}") from None
        if kind in SUBSETS:
            kind, _ = SUBSETS[kind]
            name = cls.name
        return self.create(kind, name, options)

    def choice_class(self, kind: str, name: str) -> type[Plugin]:
        """Return the class that an option names, of a kind or of a subset of one. Raise `UnknownName` if there is none."""
        if kind not in SUBSETS:
            return self.get(kind, name)
        known = self.subset(kind)
        if name not in known:
            raise UnknownName(f"unknown {kind} '{name}'{did_you_mean(name, known)}")
        return known[name].cls

    def subset(self, kind: str) -> dict[str, Registration]:
        """Return the registrations of a subset of a kind, by the names that options have for them."""
        whole, base = SUBSETS[kind]
        found = {}
        for registration in self.in_order(whole):
            if issubclass(registration.cls, base):
                found[getattr(registration.cls, "choice_name", "") or registration.name] = registration
        return found

    def check_variant(self, name: str) -> None:
        """Raise `UnknownName` if a family of architectures has no such variant. The family may import its library."""
        cls = self.get("architecture", name)
        prefix = _family_prefix(cls.name)
        if prefix and isinstance(cls, type) and issubclass(cls, interfaces.Architecture):
            known = [prefix + variant for variant in cls.variants()]
            if known and name.split(".")[0] not in known and name not in known:
                raise UnknownName(f"unknown architecture '{name}'{did_you_mean(name, known)}")

    def from_identity(self, kind: str, identity: dict[str, Any]) -> Any:
        """Return the plugin with an identity, as keys and task files contain it.

        Raise `PluginError` if the installed plugin has another version, if the options do not fit it, or if its identity
        differs. Fields that the plugin's identity gets from `located`, such as the digest of a file, are not compared:
        `Architecture.check_identity` does that.
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
    """Call the hooks of every plugin, and return what they registered.

    A plugin that raises an exception, or registers an invalid class, is left out and reported as a problem.
    """
    found = discover() if discovery is None else discovery
    registrations: list[Registration] = []
    problems = list(found.problems)
    loaded: list[Source] = []
    for source in found.sources.values():
        try:
            registrations += _registrations(found.manager, source)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # any exception, SystemExit too: the other plugins stay usable
            problems.append(f"{source} cannot register: {describe_error(error)}")
        else:
            loaded.append(source)
    return Catalogue(registrations, tuple(problems), _observers(found), loaded)


def _registrations(manager: pluggy.PluginManager, source: Source) -> list[Registration]:
    """Return what one plugin registers; raise `PluginError` for an invalid class."""
    others = [plugin for plugin in manager.get_plugins() if manager.get_name(plugin) != source.plugin]
    registrations: list[Registration] = []
    with contextlib.redirect_stdout(sys.stderr):  # a command's output must not contain a plugin's
        for kind, (hook, base) in KINDS.items():
            call = manager.subset_hook_caller(hook, others)
            call(register=partial(_register, kind, base, source, registrations))
    return registrations


def _observers(found: Discovery) -> dict[str, Observer]:
    """Return the plugins' event observers by source."""
    observers: dict[str, Observer] = {}
    for implementation in found.manager.hook.observe_event.get_hookimpls():
        others = [plugin for plugin in found.manager.get_plugins() if plugin is not implementation.plugin]
        call = found.manager.subset_hook_caller("observe_event", others)
        observers[str(found.sources[implementation.plugin_name])] = partial(_send, call)
    return observers


def _send(call: pluggy.HookCaller, event: Event) -> None:
    call(event=event)


def _register(kind: str, base: type[Plugin], source: Source, registrations: list[Registration], cls: type) -> None:
    """Add a registration; raise `PluginError` if the class is not a complete plugin of its kind."""
    hook, _ = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(f"{hook}: {cls!r} is not a subclass of harness.{base.__name__}")
    if inspect.isabstract(cls):
        raise PluginError(f"{hook}: {cls.__name__} does not define {', '.join(sorted(cls.__abstractmethods__))}")
    name: Any = getattr(cls, "name", None)
    version: Any = cls.version
    if not (isinstance(name, str) and name.isprintable() and name.strip() == name and 0 < len(name) <= 100):
        raise PluginError(f"{hook}: {cls.__name__}.name is {name!r}; a printable text of 1 to 100 characters")
    if type(version) is not int or version < 1:
        raise PluginError(f"{hook}: {cls.__name__}.version is {version!r}; a whole number from 1")
    if not (isinstance(cls.Options, type) and issubclass(cls.Options, Options)):
        raise PluginError(f"{hook}: {cls.__name__}.Options is {cls.Options!r}; a subclass of harness.Options")
    reserved = _RESERVED_OPTIONS & cls.Options.model_fields.keys()
    if reserved:
        raise PluginError(f"{hook}: {cls.__name__} has an option '{min(reserved)}'; benchmark files reserve that name")
    registrations.append(Registration(kind, name, cls, source))


def _word(kind: str) -> str:
    return WORDS.get(kind, kind)


def _family_prefix(name: str) -> str:
    """Return `timm/` for the name `timm/<name>` of a family, and "" for any other name."""
    if name.endswith(">") and "/<" in name:
        return name.split("<")[0]
    return ""
