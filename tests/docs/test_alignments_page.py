"""The tables of docs/alignments.md have the values of the recorded benchmark."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from harness.results.rows import Row, load_rows

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = load_rows(ROOT / "benchmarks" / "results" / "alignments")
SECTIONS = {"resnet20": "## ResNet20 on digits", "vit": "## ViT on digits"}
COLUMNS = ("joint_connectivity", "q_repair", "worst_connectivity", "pairwise_barrier")
MEANS = {"weight_inner_product": 0, "weight_distance": 1, "derivation_cost": 1}
"""Columns without a deviation, with the number of decimals."""


def values(architecture: str, method: str, metric: str) -> list[float]:
    """Return the recorded values of a method over seeds."""

    def wanted(row: Row) -> bool:
        return (row.architecture, row.method, row.metric) == (architecture, method, metric)

    return [row.value for row in ROWS if wanted(row) and row.value is not None]


def table(architecture: str) -> dict[str, list[str]]:
    """Return the cells of a section's table by method."""
    text = (ROOT / "docs" / "alignments.md").read_text(encoding="utf-8")
    section = text.split(SECTIONS[architecture], 1)[1].split("\n## ", 1)[0]
    found = {}
    for line in section.splitlines()[4:]:
        if line.startswith("|"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[re.sub(r"\[(.*)\]\(.*\)", r"\1", name)] = cells
    return found


@pytest.mark.parametrize("architecture", SECTIONS)
def test_table_of_an_architecture(architecture: str) -> None:
    """Every recorded method is there, with its means and deviations over six seeds."""
    rows = table(architecture)
    assert set(rows) == {row.method for row in ROWS if row.architecture == architecture}
    for method, cells in rows.items():
        for cell, metric in zip(cells, COLUMNS, strict=False):
            recorded = values(architecture, method, metric)
            assert len(recorded) == 6
            expected = f"{statistics.mean(recorded):.1f} ± {statistics.stdev(recorded):.1f}"
            assert cell.replace("−", "-") == expected, (method, metric)
        for cell, (metric, decimals) in zip(cells[len(COLUMNS) :], MEANS.items(), strict=False):
            assert cell == f"{statistics.mean(values(architecture, method, metric)):.{decimals}f}", (method, metric)
