"""A model of every module of timm is trained, stored, loaded and interpolated; the table of what works is the sweep's."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import timm

SWEEP = Path(__file__).with_name("timm_sweep.py")
PAGE = SWEEP.with_name("timm_page.py")
MODELS = SWEEP.with_name("timm_models.csv")
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "timm.csv"
NETWORKS = ("build", "train", "reload", "interpolate")
COLUMNS = ["module", "model", "parameters", "image_size", *NETWORKS, "symmetry", "seconds", "timm", "torch", "cpu"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def sweep(*models: str, table: Path) -> dict[str, dict[str, str]]:
    command = [sys.executable, str(SWEEP), "run", *models, "--table", str(table)]
    subprocess.run(command, check=True, capture_output=True)
    return {row["model"]: row for row in rows_of(table)}


def test_models_are_timm_s() -> None:
    """One for each module; all are still registered."""
    rows = rows_of(MODELS)
    assert len(rows) > 90
    assert len({row["module"] for row in rows}) == len(rows)
    assert {row["model"] for row in rows} <= set(timm.list_models())


def test_committed_table() -> None:
    """Lines of the sweep, a model once, with a reason where something does not work."""
    rows = rows_of(TABLE)
    assert list(rows[0]) == COLUMNS
    assert len({row["model"] for row in rows}) == len(rows)
    assert {row["model"] for row in rows} <= {row["model"] for row in rows_of(MODELS)}
    assert all(row["build"] for row in rows)


def write_page(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PAGE), *words], capture_output=True, text=True)


def test_page_says_what_the_table_says() -> None:
    """The committed page is the one that the committed table makes."""
    ended = write_page("--check")
    assert ended.returncode == 0, f"run python {PAGE.relative_to(PAGE.parents[2])} {ended.stderr}"


def test_page_of_other_lines(tmp_path: Path) -> None:
    """The section is made anew: counts, reasons, and a line per module; the text around it stays."""
    table, page = tmp_path / "timm.csv", tmp_path / "timm.md"
    no_rule = (
        "UnknownOperation: rnn: the effect of operation 'aten.lstm.input' on permutations of hidden units is not known; no"
    )
    lines = [
        ["b", "b_tiny", 1234567, 32, "yes", "yes", "yes", "yes", no_rule, 7.6, "1.0", "2.6", "EPYC"],
        ["a", "a_tiny", 20, 64, "yes", "is random | in evaluation mode", "", "", "yes", 7.4, "1.0", "2.6", "EPYC"],
        ["c", "c_tiny", 20, "", "not done after 3 s", "", "", "", "", 3.1, "1.0", "2.6", "EPYC"],
    ]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    committed = (PAGE.parents[2] / "docs" / "timm.md").read_text(encoding="utf-8")
    page.write_text(committed, encoding="utf-8")
    assert write_page("--check", "--table", str(table), "--page", str(page)).returncode == 1
    assert write_page("--table", str(table), "--page", str(page)).returncode == 0
    assert write_page("--check", "--table", str(table), "--page", str(page)).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert text[: text.index("<!-- from")] == committed[: committed.index("<!-- from")]
    assert text[text.index("<!-- end") :] == committed[committed.index("<!-- end") :]
    assert "- 1 of 3 are built, trained, stored, reloaded and interpolated." in text
    assert "- 1 of 3 are aligned by permutations" in text
    assert "- `a_tiny`, train: is random \\| in evaluation mode.\n" in text
    assert "- `b_tiny`, symmetry: no rule for `aten.lstm.input`.\n" in text
    assert text[text.index("| a | ") : text.index("<!-- end")].splitlines()[:3] == [
        "| a | `a_tiny` | 20 | 64² | **no** | – | – | yes | 7 |",
        "| b | `b_tiny` | 1,234,567 | 32² | yes | yes | yes | no rule for `aten.lstm.input` | 8 |",
        "| c | `c_tiny` | 20 | **no** | – | – | – | – | 3 |",
    ]


def test_page_without_a_place_for_the_table(tmp_path: Path) -> None:
    """It is refused, and left as it is."""
    page = tmp_path / "timm.md"
    page.write_text("# Networks\n")
    ended = write_page("--page", str(page))
    assert ended.returncode == 1
    assert "the table goes between them" in ended.stderr
    assert page.read_text() == "# Networks\n"


@pytest.mark.slow
def test_two_small_models(tmp_path: Path) -> None:
    """All that is tried works; a second run goes on with what is missing."""
    table = tmp_path / "timm.csv"
    first = sweep("test_resnet", table=table)
    both = sweep("test_resnet", "test_vit", table=table)
    assert list(both) == ["test_resnet", "test_vit"]
    assert both["test_resnet"] == first["test_resnet"]
    for row in both.values():
        assert {row[stage] for stage in (*NETWORKS, "symmetry")} == {"yes"}, row


@pytest.mark.slow
def test_model_that_takes_too_long(tmp_path: Path) -> None:
    """Its line says so, and the next one is tried."""
    command = [sys.executable, str(SWEEP), "run", "test_resnet", "test_vit", "--table", str(tmp_path / "t.csv")]
    subprocess.run([*command, "--timeout", "0.1"], check=True, capture_output=True)
    assert [row["build"] for row in rows_of(tmp_path / "t.csv")] == ["not done after 0.1 s"] * 2


@pytest.mark.timm_sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", [row["model"] for row in rows_of(MODELS)])
def test_every_module(model: str, tmp_path: Path) -> None:
    """Trained, stored, loaded and interpolated, whatever its tensors are; symmetry as the committed table says."""
    row = sweep(model, table=tmp_path / "timm.csv")[model]
    assert {stage: row[stage] for stage in NETWORKS} == dict.fromkeys(NETWORKS, "yes")
    known = {committed["model"]: committed["symmetry"] for committed in rows_of(TABLE)}
    if known.get(model) == "yes":
        assert row["symmetry"] == "yes"
