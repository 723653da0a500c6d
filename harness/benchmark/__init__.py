"""A benchmark file → a checked, frozen `Benchmark`; every problem is reported at once.

Knows the file's format; knows nothing of training. `docs/benchmark-file.md` is the reference for users.
"""

from harness.benchmark.checking import Fault, checked
from harness.benchmark.format import DEFAULT_METRICS, DEFAULT_OBJECTIVE
from harness.benchmark.reading import load_benchmark
from harness.benchmark.schema import json_schema
from harness.benchmark.values import Benchmark, CellSpec, Named, Pair

__all__ = [
    "DEFAULT_METRICS",
    "DEFAULT_OBJECTIVE",
    "Benchmark",
    "CellSpec",
    "Fault",
    "Named",
    "Pair",
    "checked",
    "json_schema",
    "load_benchmark",
]
