"""Identities that were recorded before their plugins gained options: those of bundles, and of members of earlier runs.

A recorded identity that lacks options equals the present one if the defaults of these options make them equal. Keys of runs
know no such rule: they contain all options, defaults included.
"""

from __future__ import annotations

from typing import Any

from harness.api.options import options_from_json, options_json
from harness.api.plugin import Plugin, full_name
from harness.api.specs import Identity
from harness.api.task import canonical_json
from harness.errors import PluginError
from harness.registry.catalogue import Catalogue


def from_recorded_identity(catalogue: Catalogue, kind: str, identity: Identity) -> Any:
    """Return the plugin with a recorded identity; options that it has gained since have their defaults.

    Raise as `Catalogue.from_identity` does.
    """
    return catalogue.from_identity(kind, present_identity(catalogue, kind, identity))


def present_identity(catalogue: Catalogue, kind: str, identity: Identity) -> Identity:
    """Return a recorded identity with the options that the installed plugin has gained since, at their defaults.

    What was recorded stays as it is. The identity is returned unchanged if it does not fit the installed plugin. Raise
    `UnknownName` if a plugin is not installed.
    """
    name = full_name(identity)
    cls = catalogue.get(kind, name)
    if cls.version != identity["version"]:
        return identity
    try:
        plugin = catalogue.create(kind, name, options_from_json(cls.Options, identity["options"]))
        return _completed(identity, plugin.identity)
    except PluginError:
        return identity


def is_recorded_identity(identity: Identity, plugin: Plugin) -> bool:
    """Return whether a recorded identity is the plugin's, apart from options that it has gained since and are at defaults."""
    try:
        options = options_json(options_from_json(type(plugin).Options, identity["options"]))
    except PluginError:
        return False
    completed = _completed(identity, {**plugin.identity, "options": options})
    return canonical_json(completed) == canonical_json(plugin.identity)


def as_recorded(value: Any, present: Any, recorded: Any) -> Any:
    """Return a JSON value without the entries that `present` has and `recorded` lacks: those of options that were gained."""
    if isinstance(value, dict) and isinstance(present, dict) and isinstance(recorded, dict):
        kept = {}
        for name, inner in value.items():
            if name in recorded or name not in present:
                kept[name] = as_recorded(inner, present.get(name), recorded.get(name))
        return kept
    if _are_of_one_length(value, present, recorded):
        return [as_recorded(*entries) for entries in zip(value, present, recorded, strict=True)]
    return value


def _completed(recorded: Identity, present: Identity) -> Identity:
    """Return a recorded identity with the options of the present one that it lacks, also of plugins that options name."""
    completed = dict(recorded)
    for part in ("options", "chosen"):
        if part in present:
            completed[part] = _filled(recorded.get(part, {}), present[part])
    return completed


def _filled(recorded: Any, present: Any) -> Any:
    """Return a recorded JSON value with the entries of the present one that it lacks, at every depth."""
    if isinstance(recorded, dict) and isinstance(present, dict):
        filled = dict(present)
        for name, value in recorded.items():
            filled[name] = _filled(value, present.get(name))
        return filled
    if _are_of_one_length(recorded, present):
        return [_filled(*entries) for entries in zip(recorded, present, strict=True)]
    return recorded


def _are_of_one_length(*values: Any) -> bool:
    """Return whether all values are lists or tuples of one length."""
    lengths = {len(value) if isinstance(value, list | tuple) else -1 for value in values}
    return len(lengths) == 1 and -1 not in lengths
