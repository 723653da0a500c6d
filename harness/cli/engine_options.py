"""`--engine-option KEY=VALUE`, and the options of an engine that `harness run` has under their own names."""

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
    """Return an engine with options given as `KEY=VALUE` texts, and with those of `own` that are not None.

    Values are YAML, validated as in a benchmark file. Raise `UserError` in one line for what is wrong.
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
        key = str(issues[0].path[0]) if issues[0].path and not issues[0].at_key else name
        raise UserError(f"--engine-option {key}: {issues[0].text}")
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
