"""Load plugins from entry points. A plugin that cannot be loaded is reported, with its distribution, and left out."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import pluggy

from harness.errors import PluginError, did_you_mean
from harness.registry import hookspecs
from harness.text import describe_error, escape_unprintable

GROUP = "harness"
DISABLED = "HARNESS_DISABLED_PLUGINS"


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: the name of its entry point, and the name and version of its distribution."""

    plugin: str
    distribution: str

    def to_json(self) -> dict[str, str]:
        """Return the names of plugin and distribution, and the distribution's version; no path."""
        name, _, version = self.distribution.partition(" ")
        return {"plugin": self.plugin, "distribution": name, "version": version}

    def __str__(self) -> str:
        return f"plugin '{self.plugin}' of distribution '{self.distribution}'"


@dataclass(frozen=True)
class Discovery:
    """The loaded plugins, their sources by entry point name, and one line for each plugin that was left out."""

    manager: pluggy.PluginManager
    sources: dict[str, Source]
    problems: tuple[str, ...]


def discover(disabled: Iterable[str] | None = None) -> Discovery:
    """Load every entry point of group `harness`, except those whose name or distribution is disabled.

    `disabled` defaults to the comma-separated names in the environment variable HARNESS_DISABLED_PLUGINS. Names are
    normalized before they are compared (PEP 503): case is ignored, and `-`, `_` and `.` are equal. A disabled name that no
    plugin has is reported as a problem. Raise `PluginError` if two distributions have an entry point of the same name.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    sources: dict[str, Source] = {}
    problems: list[str] = []
    names = _disabled_names() if disabled is None else tuple(disabled)
    for point, source in installed_plugins(names):
        problem = _load(manager, point, source)
        if problem is None:
            sources[source.plugin] = source
        else:
            problems.append(f"{source} {problem}; fix it, or leave it out with {DISABLED}={source.plugin}")
    return Discovery(manager, sources, (*_unknown_names(names), *problems))


def installed_plugins(disabled: Iterable[str] | None = None) -> list[tuple[EntryPoint, Source]]:
    """Return the entry points that `discover` loads, sorted by name, with their sources. Import none of them.

    Raise `PluginError` if two distributions have an entry point of the same name.
    """
    names = _disabled_names() if disabled is None else disabled
    normalized = {_normalized(name) for name in names}
    found: dict[str, tuple[EntryPoint, Source]] = {}
    for point, source in _entry_points():
        if normalized & _names_of(source):
            continue
        if source.plugin in found and found[source.plugin][0] != point:
            raise PluginError(
                f"{found[source.plugin][1]} and {source} have one name; uninstall one, "
                f"leave it out by its distribution's name with {DISABLED}, or rename its entry point in group '{GROUP}'"
            )
        found[source.plugin] = point, source
    return list(found.values())


def _entry_points() -> list[tuple[EntryPoint, Source]]:
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        found.append((point, Source(point.name, distribution)))
    return found


def _disabled_names() -> tuple[str, ...]:
    names = [name.strip() for name in os.environ.get(DISABLED, "").split(",")]
    return tuple(filter(None, names))


def _normalized(name: str) -> str:
    """Return a normalized name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names_of(source: Source) -> set[str]:
    return {_normalized(source.plugin), _normalized(source.distribution.split()[0])}


def _unknown_names(disabled: Iterable[str]) -> Iterator[str]:
    """Yield a line for each disabled name that is not the name of a plugin or a distribution."""
    known: set[str] = set()
    for _, source in _entry_points():
        known |= {source.plugin, source.distribution.split()[0]}
    normalized = {_normalized(name) for name in known}
    for name in disabled:
        if _normalized(name) not in normalized:
            advice = did_you_mean(_normalized(name), known)
            yield f"{DISABLED} names '{escape_unprintable(name)}', which no plugin or distribution is called{advice}"


def _load(manager: pluggy.PluginManager, point: EntryPoint, source: Source) -> str | None:
    """Import and register one plugin. Return the problem if that fails, whatever exception the plugin raises."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a command's output must not contain a plugin's
            module = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"does not import: {describe_error(error)}"
    twin = manager.get_name(module)
    if twin is not None:
        return f"is the module of plugin '{twin}' once more: '{point.value}'"
    try:
        manager.register(module, name=source.plugin)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.has_plugin(source.plugin):
            manager.unregister(name=source.plugin)
        return _invalid_hook(module, str(error))
    return None


def _invalid_hook(module: object, error: str) -> str:
    """Return which hook implementation is invalid."""
    known = [name for name in vars(hookspecs) if name.startswith(("register_", "observe_"))]
    for name in dir(module):
        if hasattr(getattr(module, name), f"{hookspecs.PROJECT}_impl") and name not in known:
            return f"implements an unknown hook '{name}'{did_you_mean(_normalized(name), known)}"
    return f"is refused: {' '.join(error.split())}"
