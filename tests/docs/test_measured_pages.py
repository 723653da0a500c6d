"""The tables of docs/alignments.md and docs/one_basin.md have the values of the recorded benchmarks."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from harness.results.rows import load_rows

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SECTIONS = {"resnet20": "## ResNet20 on digits", "vit": "## ViT on digits"}
BOTH, MEAN, COUNT = "both", "mean", "count"
"""What a column shows: mean and standard deviation, the mean alone, or a whole number with separators, if it was recorded."""
PAGES = {
    "alignments": (
        "alignments.md",
        [
            ("joint_connectivity", BOTH, 1),
            ("q_repair", BOTH, 1),
            ("worst_connectivity", BOTH, 1),
            ("pairwise_barrier", BOTH, 1),
            ("weight_inner_product", MEAN, 0),
            ("weight_distance", MEAN, 1),
            ("derivation_cost", MEAN, 1),
            ("derivation_images", COUNT, 0),
            ("derivation_gradient_steps", COUNT, 0),
        ],
    ),
    "populations": (
        "one_basin.md",
        [
            ("training_epochs", MEAN, 0),
            ("ensemble_accuracy", BOTH, 2),
            ("mean_member_accuracy", BOTH, 2),
            ("center_accuracy", BOTH, 2),
            ("joint_connectivity", BOTH, 2),
            ("disagreement", MEAN, 1),
            ("negative_log_likelihood", MEAN, 3),
            ("calibrated_negative_log_likelihood", MEAN, 3),
        ],
    ),
}
"""By bundle: the page, and its columns with the number of decimals."""


def table(page: str, architecture: str) -> dict[str, list[str]]:
    """Return the cells of a section's table by method."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(SECTIONS[architecture], 1)[1].split("\n## ", 1)[0]
    found = {}
    for line in section.splitlines()[4:]:
        if line.startswith("|"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[re.sub(r"\[(.*)\]\(.*\)", r"\1", name)] = cells
    return found


def shown(values: list[float], form: str, decimals: int) -> str:
    """Return a cell of the table."""
    if form == COUNT:
        return f"{statistics.mean(values):,.0f}" if values else "—"
    text = f"{statistics.mean(values):.{decimals}f}"
    if form == BOTH:
        text += f" ± {statistics.stdev(values):.{decimals}f}"
    return text


@pytest.mark.parametrize("bundle", PAGES)
@pytest.mark.parametrize("architecture", SECTIONS)
def test_table_of_an_architecture(bundle: str, architecture: str) -> None:
    """Every recorded method is there, with its means and deviations over six seeds."""
    page, columns = PAGES[bundle]
    values: dict[tuple[str, str], list[float]] = {}
    for row in load_rows(RESULTS / bundle):
        if row.architecture == architecture and row.value is not None:
            values.setdefault((row.method, row.metric), []).append(row.value)
    rows = table(page, architecture)
    assert set(rows) == {method for method, _ in values}
    for method, cells in rows.items():
        for cell, (metric, form, decimals) in zip(cells, columns, strict=True):
            recorded = values.get((method, metric), [])
            assert len(recorded) == 6 or form == COUNT
            assert cell.replace("−", "-") == shown(recorded, form, decimals), (method, metric)
