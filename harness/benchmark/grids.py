"""The grid of an entry: options with lists of values, expanded to one method per combination."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.benchmark.format import MAX_VARIANTS
from harness.benchmark.formatting import format_path, format_value, unknown_key
from harness.benchmark.problems import KeyPath
from harness.benchmark.reporter import ProblemReporter


@dataclass(frozen=True)
class GridValue:
    """One value of one option of a grid."""

    option: str
    value: Any
    path: KeyPath

    @property
    def text(self) -> str:
        """The value in a label."""
        if isinstance(self.value, str):
            return self.value
        return json.dumps(self.value, ensure_ascii=False)


def expand_grid(
    grid: Any, path: KeyPath, known: Iterable[str] | None, options: Collection[str], reporter: ProblemReporter
) -> list[tuple[GridValue, ...]] | None:
    """Return the points of a grid. Report an invalid grid and return None.

    `known` are the plugin's options (None if the plugin is unknown), `options` those that the entry sets outside the grid.
    """
    if not isinstance(grid, dict) or not grid:
        allowed = "options with lists of values, such as {beta: [0.2, 0.5]}"
        reporter.report(path, f"grid: {format_value(grid)} is not a grid; {allowed}")
        return None
    if not _check_options(grid, path, known, options, reporter):
        return None
    count = math.prod(len(values) for values in grid.values())
    if count > MAX_VARIANTS:
        reporter.report(path, f"grid: makes {count} methods; at most {MAX_VARIANTS}")
        return None
    axes = []
    for option, values in grid.items():
        axes.append([GridValue(option, value, (*path, option, index)) for index, value in enumerate(values)])
    return list(itertools.product(*axes))


def _check_options(
    grid: Mapping[str, Any],
    path: KeyPath,
    known: Iterable[str] | None,
    options: Collection[str],
    reporter: ProblemReporter,
) -> bool:
    """Report invalid options and lists of a grid. Return whether all are valid."""
    valid = True
    for option, values in grid.items():
        if known is not None and option not in known:
            problem = unknown_key(option, known)
            reporter.report((*path, option), problem, at_key=True)
        elif option in options:
            problem = f"{format_value(option)} is given beside the grid too; give it once"
            reporter.report((*path, option), problem, at_key=True)
        else:
            problem = _check_values(values)
            if problem:
                reporter.report((*path, option), f"{format_path(('grid', option))}: {problem}")
        valid = valid and not problem
    return valid


def _check_values(values: Any) -> str:
    """Return what is wrong with the values of an option, or an empty text."""
    if not isinstance(values, list) or not values:
        return f"{format_value(values)} is not a list of values; such as [1, 2]"
    if len({repr(value) for value in values}) < len(values):
        return f"{format_value(values)} lists a value twice; list each once"
    return ""
