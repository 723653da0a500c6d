"""The problems of a benchmark file, collected while it is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from harness.benchmark.formatting import format_path, format_value
from harness.benchmark.problems import KeyPath
from harness.benchmark.validation import ValidationIssue
from harness.benchmark.yaml_source import YamlSource
from harness.errors import BenchmarkError
from harness.text import escape_unprintable

SetupIndex = tuple[int, int]
"""The indices of a setup's dataset and architecture."""


class _SetupProblem(NamedTuple):
    path: KeyPath
    subject: str
    text: str


class ProblemReporter:
    """Collects problems with their positions. Ignores further problems of a value that could not be read."""

    def __init__(self, source: YamlSource) -> None:
        self._source = source
        self._problems = list(source.problems)
        self._unreadable = {problem.position for problem in source.problems}
        self._non_finite: set[KeyPath] = set()
        self._setup_problems: dict[_SetupProblem, list[SetupIndex]] = {}

    def __bool__(self) -> bool:
        return bool(self._problems or self._setup_problems)

    def report(self, path: KeyPath, text: str, *, at_key: bool = False) -> None:
        """Report a problem at a value, or at its key."""
        problem = self._source.problem(path, escape_unprintable(text), at_key=at_key)
        if problem.position not in self._unreadable:
            self._problems.append(problem)

    def report_non_finite(self, value: Any, path: KeyPath) -> None:
        """Report every infinity and NaN in a value. Validation issues of these numbers are then ignored."""
        if isinstance(value, float) and not math.isfinite(value):
            self.report(path, f"{format_value(value)} is not a finite number; every number in a benchmark file is finite")
            self._non_finite.add(path)
        elif isinstance(value, dict):
            for key, inner in value.items():
                self.report_non_finite(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self.report_non_finite(inner, (*path, index))

    def report_issue(self, issue: ValidationIssue, path: KeyPath, owner: str) -> None:
        """Report a validation issue at a path of the file. `owner` names the plugin or section of the value."""
        if path in self._non_finite and not issue.at_key:
            return
        text = issue.text
        subject = ".".join(part for part in (owner, format_path(issue.path)) if part)
        if subject and not issue.at_key:
            text = f"{subject}: {text}"
        self.report(path, text, at_key=issue.at_key)

    def report_for_setups(self, path: KeyPath, subject: str, text: str, setups: Iterable[SetupIndex]) -> None:
        """Report a problem of some setups. Equal problems become one line that names all their setups."""
        self._setup_problems.setdefault(_SetupProblem(path, subject, text), []).extend(setups)

    def describe_position(self, path: KeyPath) -> str:
        """Return the position of the value at a path, for a message."""
        return self._source.describe_position(path)

    def error(self, datasets: list[str], architectures: list[str]) -> BenchmarkError:
        """Return an exception that lists all problems. `datasets` and `architectures` are the labels that name setups."""
        for problem, setups in self._setup_problems.items():
            names = [f"{datasets[dataset]} × {architectures[architecture]}" for dataset, architecture in setups]
            self.report(problem.path, f"{problem.subject}{_on_setups(names)}: {problem.text}")
        return self._source.error(self._problems)


def _on_setups(names: list[str]) -> str:
    """Return ` on a × b, c × d and 3 more`, or an empty text without setups."""
    if not names:
        return ""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f" on {', '.join(names[:2])}{more}"
