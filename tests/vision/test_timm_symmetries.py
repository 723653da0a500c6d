"""The table of symmetry groups of timm's networks: its lines, its page, and the script that makes it."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest

from scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script as a module."""
    return load_script(ROOT / "benchmarks" / "timm_symmetries.py")


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """Return the lines of a table by model."""
    with path.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_lines_of_the_table(script: ModuleType) -> None:
    """Every line has the columns of the script, and groups or a reason; what could be permuted before still can."""
    table = rows_of(script.TABLE)
    aligned = {model for model, row in rows_of(script.NETWORKS).items() if row["symmetry"] == "yes"}
    assert table
    for model, row in table.items():
        assert list(row) == script.COLUMNS
        assert row["outcome"]
        if model in aligned:
            assert row["outcome"] == script.CERTIFIED
            assert int(row["permutations"]) >= int(row["permutation_groups"]) > 0


def test_page_agrees_with_the_table(script: ModuleType) -> None:
    """The section of docs/timm.md is what the script writes."""
    text = script.PAGE.read_text(encoding="utf-8")
    written = text.split(script.BEGIN)[1].split(script.END)[0]
    assert written.strip() == script.section(list(rows_of(script.TABLE).values())).strip()


def test_groups_of_one_network(script: ModuleType) -> None:
    """A small ResNet of timm has permutations and scales, and neither rotations nor invertible maps."""
    columns = script.derive("test_resnet", 32)
    recorded = rows_of(script.TABLE)["test_resnet"]
    for name in ("permutation_groups", "permutations", "scale_groups", "scales", "orthogonal", "invertible", "outcome"):
        assert str(columns[name]) == recorded[name]
    assert columns["scale_groups"] > 0
    assert columns["orthogonal"] == columns["invertible"] == 0
