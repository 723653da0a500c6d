"""`--engine-option KEY=VALUE`: texts into values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.benchmark.problems import ProblemError
from harness.benchmark.yaml_constructor import parse_yaml
from harness.errors import UserError


def parse_engine_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return `KEY=VALUE` texts, values in YAML, as a mapping. Raise `UserError` for the first invalid text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, value = _parse(pair)
        if key in values:
            raise UserError(f"--engine-option {key}: given twice")
        values[key] = value
    return values


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
