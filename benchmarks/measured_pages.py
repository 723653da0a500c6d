"""Write the tables of docs/alignments.md and docs/one_basin.md from the rows of the recorded benchmarks.

    python benchmarks/measured_pages.py

Each table stands between two comments, of which the first has its name in `TABLES`.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.comparison.assembly import compare_methods
from harness.comparison.runs import ComparedRun, read_compared_run
from harness.results.examples import Examples
from harness.results.rows import Row, load_rows

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("alignments.md", "one_basin.md")
END = "<!-- end of the table -->"

Values = Mapping[tuple[str, str], list[float]]
"""Method and metric → the values of all seeds."""


@dataclass(frozen=True)
class Mean:
    """A column with the mean of a metric over seeds and, for several seeds, its standard deviation if `spread`."""

    title: str
    metric: str
    decimals: int
    spread: bool = False


@dataclass(frozen=True)
class Difference:
    """A column with the difference of a metric from that of `baseline`, and its 95 % interval.

    The interval is that of `harness compare` for several seeds. For a single one it is over the test images.
    """

    title: str
    baseline: str
    metric: str = "ensemble_accuracy"


@dataclass(frozen=True)
class MeasuredTable:
    """The table of one architecture of one bundle: a line per method, in the order of the benchmark."""

    bundle: str
    architecture: str
    columns: tuple[Mean | Difference, ...]


_ALIGNMENTS = (
    Mean("q̄ (%)", "joint_connectivity", 1, spread=True),
    Mean("q̄ with `repair` (%)", "q_repair", 1, spread=True),
    Mean("worst q (%)", "worst_connectivity", 1, spread=True),
    Mean("barrier of pairs (%)", "pairwise_barrier", 1, spread=True),
    Mean("inner product", "weight_inner_product", 0),
    Mean("distance", "weight_distance", 1),
    Mean("seconds", "derivation_cost", 1),
    Mean("images", "derivation_images", 0),
    Mean("steps", "derivation_gradient_steps", 0),
)
_ONE_BASIN = (
    Mean("epochs", "training_epochs", 0),
    Mean("ensemble (%)", "ensemble_accuracy", 2, spread=True),
    Difference("− constrained", "constrained"),
    Difference("− deep", "deep"),
    Mean("mean member (%)", "mean_member_accuracy", 2, spread=True),
    Mean("center (%)", "center_accuracy", 2),
    Mean("q̄ (%)", "joint_connectivity", 2, spread=True),
    Mean("disagreement (%)", "disagreement", 1),
    Mean("NLL", "negative_log_likelihood", 3),
    Mean("NLL, calibrated", "calibrated_negative_log_likelihood", 3),
)
_ABLATIONS = (
    Mean("epochs", "training_epochs", 0),
    Mean("ensemble (%)", "ensemble_accuracy", 2, spread=True),
    Difference("− constrained", "constrained"),
    Mean("mean member (%)", "mean_member_accuracy", 2, spread=True),
    Mean("q̄ (%)", "joint_connectivity", 2, spread=True),
    Mean("disagreement (%)", "disagreement", 1),
)
_SHIFT = (
    Mean("clean (%)", "ensemble_accuracy", 2, spread=True),
    Mean("corrupted (%)", "shift_accuracy", 2, spread=True),
    Difference("corrupted − constrained", "constrained", "shift_accuracy"),
    Mean("member, corrupted (%)", "shift_member_accuracy", 2),
    Mean("q̄ (%)", "joint_connectivity", 2, spread=True),
    Mean("NLL, corrupted", "shift_negative_log_likelihood", 3),
    Mean("calibration error, corrupted", "shift_calibration_error", 3),
    Mean("AURC, clean (%)", "area_under_risk_coverage", 2),
    Mean("OOD AUROC (%)", "ood_auroc", 1),
    Mean("OOD FPR95 (%)", "ood_fpr95", 1),
)
_CIFAR = (
    Mean("epochs", "training_epochs", 0),
    Mean("ensemble (%)", "ensemble_accuracy", 2),
    Difference("− constrained", "constrained"),
    Difference("− deep", "deep"),
    Mean("mean member (%)", "mean_member_accuracy", 2),
    Mean("center (%)", "center_accuracy", 2),
    Mean("q̄ (%)", "joint_connectivity", 2),
    Mean("disagreement (%)", "disagreement", 1),
    Mean("NLL, calibrated", "calibrated_negative_log_likelihood", 3),
    Mean("AURC (%)", "area_under_risk_coverage", 1),
    Mean("corrupted (%)", "shift_accuracy", 2),
    Mean("OOD AUROC (%)", "ood_auroc", 1),
)
TABLES = {
    "alignments, resnet20": MeasuredTable("alignments", "resnet20", _ALIGNMENTS),
    "alignments, vit": MeasuredTable("alignments", "vit", _ALIGNMENTS),
    "populations, resnet20": MeasuredTable("populations", "resnet20", _ONE_BASIN),
    "populations, vit": MeasuredTable("populations", "vit", _ONE_BASIN),
    "populations_long, resnet20": MeasuredTable("populations_long", "resnet20", _ONE_BASIN),
    "populations_long, vit": MeasuredTable("populations_long", "vit", _ONE_BASIN),
    "populations_cifar10": MeasuredTable("populations_cifar10", "resnet20x0.5", _CIFAR),
    "ablations": MeasuredTable("ablations", "resnet20", _ABLATIONS),
    "shift": MeasuredTable("shift", "vit", _SHIFT),
}


@cache
def recorded_rows(bundle: str) -> Sequence[Row]:
    """Return the rows of a bundle."""
    return load_rows(RESULTS / bundle)


@cache
def recorded_run(bundle: str) -> ComparedRun:
    """Return what a comparison needs of a bundle."""
    return read_compared_run(RESULTS / bundle)


def values_of(table: MeasuredTable) -> Values:
    """Return the values of a table's architecture."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in recorded_rows(table.bundle):
        if row.architecture == table.architecture and row.value is not None:
            found.setdefault((row.method, row.metric), []).append(row.value)
    return found


def interval_over_images(table: MeasuredTable, column: Difference, method: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a single seed's difference, over the test images; None without contributions of images."""
    examples = Examples(RESULTS / table.bundle)
    contributions = {}
    for row in recorded_rows(table.bundle):
        if (row.architecture, row.metric) == (table.architecture, column.metric) and row.method in (method, column.baseline):
            contributions[row.method] = examples.read(row.key, row.unit)
    own, baseline = contributions[method], contributions[column.baseline]
    if own is None or baseline is None:
        return None
    differences = own - baseline
    half_width = 1.96 * differences.std(ddof=1) / len(differences) ** 0.5
    return differences.mean() - half_width, differences.mean() + half_width


def signed(value: float) -> str:
    """Return a difference with its sign and one decimal; what rounds to 0 has no sign."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def difference_texts(table: MeasuredTable, column: Difference) -> Mapping[str, str]:
    """Return the cells of a column of differences by method, as `harness compare` computes them."""
    texts = {column.baseline: "0"}
    for compared in compare_methods([recorded_run(table.bundle)], column.baseline, [column.metric]):
        if compared.architecture != table.architecture:
            continue
        for item in compared.metrics[0].differences:
            if item.difference is None:
                continue
            text = signed(item.difference.value)
            interval = item.difference.interval() or interval_over_images(table, column, item.method)
            if interval is not None and interval != (0, 0):
                text += f" ({signed(interval[0])} to {signed(interval[1])})"
            texts[item.method] = text
    return texts


def mean_text(values: Sequence[float], column: Mean) -> str:
    """Return a cell of a column of means."""
    if not values:
        return "—"
    text = f"{statistics.mean(values):,.{column.decimals}f}"
    if column.spread and len(values) > 1:
        text += f" ± {statistics.stdev(values):.{column.decimals}f}"
    return text


def linked(method: str) -> str:
    """Return a method's name, with a link to its page if it has one."""
    for folder in ("methods", "alignments"):
        if (DOCS / folder / f"{method}.md").exists():
            return f"[{method}]({folder}/{method}.md)"
    return method


def lines_of(table: MeasuredTable) -> list[str]:
    """Return the lines of a table in markdown."""
    values = values_of(table)
    methods = list(dict.fromkeys(method for method, _ in values))
    columns = []
    for column in table.columns:
        if isinstance(column, Difference):
            texts = difference_texts(table, column)
            columns.append([texts.get(method, "—") for method in methods])
        else:
            columns.append([mean_text(values.get((method, column.metric), ()), column) for method in methods])
    titles = " | ".join(column.title for column in table.columns)
    lines = [f"| method | {titles} |", "|---|" + "--:|" * len(columns)]
    for method, *cells in zip(methods, *columns, strict=True):
        shown = " | ".join(cells).replace("-", "−")
        lines.append(f"| {linked(method)} | {shown} |")
    return lines


def begin(name: str) -> str:
    """Return the comment before a table."""
    return f"<!-- table of {name}, by benchmarks/measured_pages.py -->"


def rendered(page: str) -> str:
    """Return the page with each of its tables written anew."""
    for name, table in TABLES.items():
        place = re.compile(f"({re.escape(begin(name))}\n).*?({re.escape(END)})", re.DOTALL)
        if place.search(page):
            text = "\n".join(lines_of(table))
            page = place.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page)
    return page


def main() -> None:
    """Write all pages."""
    for name in PAGES:
        page = DOCS / name
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
