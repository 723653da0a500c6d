"""The tables of docs/alignments.md and docs/one_basin.md are those of the recorded benchmarks."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest

from scripts import load_script

ROOT = Path(__file__).resolve().parent.parent.parent
measured_pages = load_script(ROOT / "benchmarks" / "measured_pages.py")
TABLES = sorted(measured_pages.TABLES)


@pytest.mark.parametrize("name", measured_pages.PAGES)
def test_a_page(name: str) -> None:
    """`python benchmarks/measured_pages.py` would change nothing."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert measured_pages.rendered(page) == page


def test_every_table_is_shown_once() -> None:
    """No table is forgotten on the pages."""
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in measured_pages.PAGES)
    for name in TABLES:
        assert pages.count(measured_pages.begin(name)) == 1, name


@pytest.mark.parametrize("architecture", ["resnet20", "vit"])
def test_a_cell_of_the_table(architecture: str) -> None:
    """Mean, standard deviation and difference are those of the values in `results.csv`."""
    accuracies: dict[str, list[float]] = {}
    with (ROOT / "benchmarks" / "results" / "populations" / "results.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["architecture"] == architecture and line["metric"] == "ensemble_accuracy":
                accuracies.setdefault(line["method"], []).append(float(line["value"]))
    deep, snapshot = accuracies["deep"], accuracies["snapshot"]
    difference = statistics.mean(snapshot) - statistics.mean(deep)
    [line] = [
        line
        for line in measured_pages.lines_of(measured_pages.TABLES[f"populations, {architecture}"])
        if line.startswith("| [snapshot]")
    ]
    cells = [cell.strip().replace("−", "-") for cell in line.split("|")]
    assert cells[3] == f"{statistics.mean(snapshot):.2f} ± {statistics.stdev(snapshot):.2f}"
    assert cells[5].startswith(f"{difference:+.1f} (")
