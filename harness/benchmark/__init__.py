"""A benchmark file → a validated, frozen `Benchmark`, or an error with every problem of the file.

Knows the format of the file and nothing of training. `docs/benchmark-file.md` is the reference for users.
"""

from harness.benchmark.loader import load_benchmark
from harness.benchmark.schema import json_schema
from harness.benchmark.spec import Benchmark, CellSpec, LabeledPlugin, Setup
from harness.benchmark.validation import ValidationIssue, validate_options

__all__ = [
    "Benchmark",
    "CellSpec",
    "LabeledPlugin",
    "Setup",
    "ValidationIssue",
    "json_schema",
    "load_benchmark",
    "validate_options",
]
