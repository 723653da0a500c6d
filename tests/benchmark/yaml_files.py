"""YAML files and their problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.benchmark.overrides import apply_overrides
from harness.benchmark.yaml_source import YamlSource, read_source
from harness.errors import BenchmarkError


def read_text(folder: Path, text: str | bytes, *overrides: str) -> YamlSource:
    """Write a text to a file and read it, with overrides."""
    path = folder / "b.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return apply_overrides(read_source(path), overrides)


def problem_lines(source: YamlSource) -> list[str]:
    """Return the problems that did not prevent reading."""
    return [line.replace(str(source.path), "b.yaml") for line in source.error(source.problems).problems]


def refusal(folder: Path, text: str | bytes) -> str:
    """Return the only problem of an unusable file."""
    with pytest.raises(BenchmarkError) as caught:
        read_text(folder, text)
    [line] = caught.value.problems
    return line.replace(str(folder / "b.yaml"), "b.yaml")
