"""Entry points → plugin manager. A plugin that cannot be used is named, with its distribution, and left out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import pluggy

from harness import hookspecs
from harness.blame import told
from harness.errors import PluginError, did_you_mean

GROUP = "harness"
DISABLED = "HARNESS_DISABLED_PLUGINS"


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: its entry point's name and its distribution."""

    plugin: str
    distribution: str

    def __str__(self) -> str:
        return f"plugin '{self.plugin}' of distribution '{self.distribution}'"


@dataclass(frozen=True)
class Discovery:
    """The plugins found: the manager, where each came from, and one line for each that was left out."""

    manager: pluggy.PluginManager
    sources: dict[str, Source]
    problems: tuple[str, ...]


def discover(disabled: Iterable[str] | None = None) -> Discovery:
    """Load every entry point of group `harness`, but for the names (of plugins or distributions) that are disabled.

    `disabled` defaults to the comma-separated names in the environment variable HARNESS_DISABLED_PLUGINS. Raise
    `PluginError` if two distributions offer one entry point name, since one would silently hide the other.
    """
    if disabled is None:
        disabled = os.environ.get(DISABLED, "").split(",")
    off = {name.strip() for name in disabled if name.strip()}
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    sources: dict[str, Source] = {}
    problems: list[str] = []
    for point, source in _entry_points():
        if off & {source.plugin, source.distribution.split()[0]}:
            continue
        problem = _load(manager, point, source)
        if problem is None:
            sources[source.plugin] = source
        else:
            problems.append(f"{source} {problem}; mend it, or leave it out with {DISABLED}={source.plugin}")
    return Discovery(manager, sources, tuple(problems))


def _entry_points() -> list[tuple[EntryPoint, Source]]:
    """Return the group's entry points in order of name; a second distribution under one name is refused."""
    found: dict[str, tuple[EntryPoint, Source]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        dist = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        source = Source(point.name, dist)
        if point.name in found and found[point.name][0] != point:
            raise PluginError(
                f"{found[point.name][1]} and {source} have one name; "
                f"uninstall one, or rename its entry point in group '{GROUP}'"
            )
        found[point.name] = point, source
    return list(found.values())


def _load(manager: pluggy.PluginManager, point: EntryPoint, source: Source) -> str | None:
    """Import and register one plugin; return what is wrong with it, if anything. Plugins are code: they can raise anything."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no output of a command
            module = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"does not import: {told(error)}"
    try:
        manager.register(module, name=source.plugin)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.has_plugin(source.plugin):
            manager.unregister(name=source.plugin)
        return _offence(module, str(error))
    return None


def _offence(module: object, error: str) -> str:
    """Say which hook implementation is not one."""
    known = [name for name in vars(hookspecs) if name.startswith(("register_", "observe_"))]
    for name in dir(module):
        if hasattr(getattr(module, name), f"{hookspecs.PROJECT}_impl") and name not in known:
            return f"implements an unknown hook '{name}'{did_you_mean(name, known)}"
    return f"is refused: {' '.join(error.split())}"
