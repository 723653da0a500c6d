"""Other methods for ensemble builders that ask for their members, and what builders may put into handles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.api.builder import EnsembleBuilder
from harness.api.cell import Cell, MembersOf
from harness.api.derived_weights import DerivedWeights
from harness.api.joint_trajectory import JointCheckpoint
from harness.api.options import changed_options
from harness.api.plugin import Plugin
from harness.api.task import canonical_json
from harness.api.trajectory import Checkpoint, Weights
from harness.benchmark import validate_options
from harness.errors import PluginError, UserError
from harness.registry.catalogue import Catalogue


def members_of_methods(catalogue: Catalogue, folder: Path) -> MembersOf:
    """Return the function by which `Cell.build` finds the members of other methods. `folder` is that of the benchmark file."""

    def members_of(cell: Cell, method: str, options: Mapping[str, Any]) -> tuple[Weights, ...]:
        builder = _find_builder(catalogue, method, options)
        described = name_with_options(builder)
        if described in cell.asked:
            raise PluginError(f"methods ask for each other's members: {' → '.join((*cell.asked, described))}")
        builder.check(cell.recipe, cell.size)
        return tuple(builder.located(folder).build(replace(cell, asked=(*cell.asked, described))))

    return members_of


def _find_builder(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> EnsembleBuilder:
    try:
        cls = catalogue.get("ensemble_builder", name)
    except UserError as error:
        raise PluginError(f"it asks for the members of another method: {error}") from None
    checked, issues = validate_options(cls.Options, dict(options))
    if issues:
        issue = issues[0]
        path = ".".join(str(step) for step in issue.path)
        subject = name if issue.at_key or not path else f"{name}.{path}"
        raise PluginError(f"it asks for the members of another method: {subject}: {issue.text}")
    builder: EnsembleBuilder = catalogue.create("ensemble_builder", name, checked)
    return builder


def name_with_options(plugin: Plugin) -> str:
    """Return a plugin's name and the options that differ from their defaults: equal for equal plugins."""
    changed = changed_options(plugin.options)
    return f"{plugin.name}{canonical_json(changed)}" if changed else plugin.name


def require_registered(handle: Weights, catalogue: Catalogue) -> None:
    """Raise `PluginError` if a worker could not find a plugin that a handle was made with."""
    if isinstance(handle, DerivedWeights):
        _require_registered("derivation", handle.derivation, catalogue)
    elif isinstance(handle, Checkpoint):
        _require_registered("objective", handle.trajectory.objective, catalogue)
    elif isinstance(handle, JointCheckpoint):
        _require_registered("coupling", handle.trajectory.coupling, catalogue)
        for member in handle.trajectory.members:
            _require_registered("objective", member.objective, catalogue)


def _require_registered(kind: str, plugin: Plugin, catalogue: Catalogue) -> None:
    try:
        registered = catalogue.get(kind, plugin.name)
    except UserError as error:
        raise PluginError(f"{error}; register {type(plugin).__name__} with register_{kind}s") from None
    if registered is not type(plugin):
        raise PluginError(
            f"{kind} '{plugin.name}' is {type(plugin).__name__}, but {registered.__name__} is registered under that name; "
            "give one of them another name"
        )
