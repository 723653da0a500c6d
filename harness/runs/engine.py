"""The engine of a run, from its name and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.api.engine import Engine
from harness.benchmark.validation import validate_options
from harness.errors import UserError
from harness.registry.catalogue import Catalogue


def make_engine(catalogue: Catalogue, name: str, options: Mapping[str, Any], own: Mapping[str, Any]) -> Engine:
    """Return an engine with options as in a benchmark file, and those of `own` that are not None.

    `own` are engine options that are also options of the command: `workers`, `task_timeout`. Raise `UserError` for the first
    invalid option.
    """
    fields = catalogue.get("engine", name).Options.model_fields
    values: dict[str, Any] = {}
    for key, value in own.items():
        if value is None:
            continue
        if key not in fields:
            raise UserError(f"--{key.replace('_', '-')}: engine '{name}' has no such option")
        values[key] = value
    for key, value in options.items():
        if key in values:
            raise UserError(f"--engine-option {key}: given twice")
        values[key] = value
    checked, issues = validate_options(catalogue.get("engine", name).Options, values)
    if issues:
        issue = issues[0]
        subject = name
        if issue.path and not issue.at_key:
            subject = str(issue.path[0])
        raise UserError(f"--engine-option {subject}: {issue.text}")
    engine: Engine = catalogue.create("engine", name, checked)
    return engine
