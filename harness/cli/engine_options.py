"""Options of an engine: `--engine-option KEY=VALUE`, and those that `harness run` has as options of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.engine import Engine
from harness.benchmark.problems import ProblemError
from harness.benchmark.validation import validate_options
from harness.benchmark.yaml_constructor import parse_yaml
from harness.errors import UserError
from harness.registry.catalogue import Catalogue


def make_engine(catalogue: Catalogue, name: str, pairs: Sequence[str], own: Mapping[str, Any]) -> Engine:
    """Return an engine with the options of `pairs` (`KEY=VALUE`, values in YAML) and those of `own` that are not None.

    Raise `UserError` for the first invalid option.
    """
    fields = catalogue.get("engine", name).Options.model_fields
    values: dict[str, Any] = {}
    for key, value in own.items():
        if value is None:
            continue
        if key not in fields:
            raise UserError(f"--{key.replace('_', '-')}: engine '{name}' has no such option")
        values[key] = value
    for pair in pairs:
        key, value = _parse(pair)
        if key in values:
            raise UserError(f"--engine-option {key}: given twice")
        values[key] = value
    options, issues = validate_options(catalogue.get("engine", name).Options, values)
    if issues:
        issue = issues[0]
        subject = name
        if issue.path and not issue.at_key:
            subject = str(issue.path[0])
        raise UserError(f"--engine-option {subject}: {issue.text}")
    engine: Engine = catalogue.create("engine", name, options)
    return engine


def _parse(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise UserError(f"--engine-option {pair}: expected KEY=VALUE, such as workers=2")
    try:
        document = parse_yaml(text)
    except ProblemError as error:
        raise UserError(f"--engine-option {key}: {error}") from None
    if document.problems:
        raise UserError(f"--engine-option {key}: {document.problems[0].text}")
    return key, document.value
