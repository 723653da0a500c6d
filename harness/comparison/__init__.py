"""Paired differences between methods: rows and contributions of test images → intervals, p-values and equivalence.

`compare_methods` makes them of the folders of runs, `render_comparisons` returns them as text. `docs/statistics.md` describes
the result.
"""

from harness.comparison.assembly import compare_methods
from harness.comparison.formats import FORMATS, render_comparisons
from harness.comparison.runs import ComparedRun, read_compared_run
from harness.comparison.values import MethodDifference, MetricComparison, TableComparison

__all__ = [
    "FORMATS",
    "ComparedRun",
    "MethodDifference",
    "MetricComparison",
    "TableComparison",
    "compare_methods",
    "read_compared_run",
    "render_comparisons",
]
