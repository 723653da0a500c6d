"""Compare the rows of a bundle with what was measured again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.api.interfaces import Metric, MetricValue
from harness.api.task import FORMAT
from harness.bundles.bundle import Bundle, Place
from harness.bundles.layout import EXAMPLES, RESULTS
from harness.bundles.measuring import Remeasured
from harness.bundles.member_source import place_of
from harness.bundles.row_checks import describe
from harness.bundles.tolerances import Comparison
from harness.results.examples import Examples
from harness.results.rows import Row


@dataclass
class Compared:
    """The result of comparing a metric: the number of values, one line per difference, and of how many ensembles that were
    measured now no value was published.
    """

    values: int = 0
    problems: list[str] = field(default_factory=list)
    unpublished: int = 0


class RowComparison:
    """The rows of a bundle, to be compared metric by metric."""

    def __init__(self, bundle: Bundle, rows: Sequence[Row], examples: Examples, exact: bool) -> None:
        self._bundle = bundle
        self._examples = examples
        self._exact = exact
        self._rows: dict[tuple[Place, str], dict[str, Row]] = {}
        for row in rows:
            name = row.metric_version.partition("@")[0]
            self._rows.setdefault((place_of(row), name), {})[row.metric] = row

    def compare(self, metric: Metric, results: Mapping[Place, Remeasured]) -> Compared:
        """Compare the rows of a metric with what it measured for each ensemble."""
        compared = Compared()
        for place, result in results.items():
            rows = self._rows.get((place, metric.name), {})
            published = {name: row for name, row in rows.items() if row.status == "done"}
            if published:
                compared.values += len(published)
                compared.problems += self._problems(metric, published, result)
            elif not result.failure:
                compared.unpublished += 1
        return compared

    def _problems(self, metric: Metric, published: Mapping[str, Row], result: Remeasured) -> Iterator[str]:
        main = next(iter(published.values()))
        if result.failure:
            yield f"{describe(main)}: cannot be measured: {result.failure}"
            return
        comparison = Comparison(self._exact, result.images)
        measured = {value.metric: value for value in result.values}
        for name, row in published.items():
            if name not in measured:
                yield f"{describe(row)}: the metric gives no such value"
            else:
                yield from _differences(metric, row, measured[name], comparison)
        for name in measured:
            if name not in published:
                yield f"{describe(main)}: measured '{name}', of which {RESULTS} has no row"
        if self._keys_are_comparable(main) and main.key != result.key:
            yield f"{describe(main)}: its key is not that of these members, settings and options"
        if self._exact and main.warning != result.warning:
            yield f"{describe(main)}: published with the warning {main.warning!r}, measured with {result.warning!r}"
        yield from self._example_differences(metric, main, result, comparison)

    def _keys_are_comparable(self, row: Row) -> bool:
        """Return whether keys are computed today as they were, and the settings have kept all of their options."""
        for entry in self._bundle.ensembles:
            if entry.place == place_of(row):
                setting = self._bundle.config(entry.keys[0]).setting
                return setting.format == FORMAT and "…/" not in str(setting.to_json())
        return False

    def _example_differences(self, metric: Metric, row: Row, result: Remeasured, comparison: Comparison) -> Iterator[str]:
        published = self._examples.read(row.key, row.unit)
        if published is None or result.examples is None:
            return
        if not comparison.examples_agree(metric, row.unit, published, result.examples):
            yield f"{describe(row)}: the contributions of test images in {EXAMPLES} differ from those measured"


def _differences(metric: Metric, row: Row, value: MetricValue, comparison: Comparison) -> Iterator[str]:
    """Yield the differences of one row from the value measured."""
    assert row.value is not None
    allowed = comparison.tolerance(metric, row.unit, row.value)
    if not comparison.agree(metric, row.unit, row.value, float(value.value)):
        yield f"{describe(row)}: published {row.value!r}, measured {float(value.value)!r} (tolerance {allowed:g})"
    given, error = row.standard_error, value.standard_error
    if (given is None) != (error is None):
        yield f"{describe(row)}: published with standard error {given}, measured with {error}"
    elif given is not None and error is not None and not comparison.agree(metric, row.unit, given, float(error)):
        yield f"{describe(row)}: published with standard error {given!r}, measured with {float(error)!r}"
    if (row.unit, row.better) != (value.unit, value.better):
        given_unit, unit = (
            f"{row.unit or 'none'}, {row.better or 'neither'}",
            f"{value.unit or 'none'}, {value.better or 'neither'}",
        )
        yield f"{describe(row)}: published with unit and direction {given_unit}, measured with {unit}"
