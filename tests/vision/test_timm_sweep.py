"""The sweep over timm's modules: its models, its table, the page with the table, and the models themselves."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from packaging.version import Version

SWEEP = Path(__file__).with_name("timm_sweep.py")
PAGE = SWEEP.with_name("timm_page.py")
MODELS = SWEEP.with_name("timm_models.csv")
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "timm.csv"
NETWORKS = ("build", "train", "reload", "interpolate")
COLUMNS = ["module", "model", "parameters", "image_size", *NETWORKS, "symmetry", "seconds", "timm", "torch", "cpu"]


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def models_of(rows: list[dict[str, str]]) -> list[str]:
    """Return the models of rows."""
    return [row["model"] for row in rows]


def sweep(*models: str, table: Path) -> dict[str, dict[str, str]]:
    """Run the sweep over some models, and return the rows of the table by model."""
    command = [sys.executable, str(SWEEP), "run", *models, "--table", str(table)]
    subprocess.run(command, check=True, capture_output=True)
    return {row["model"]: row for row in rows_of(table)}


def test_models_of_the_sweep() -> None:
    """There is one model per module."""
    rows = rows_of(MODELS)
    assert len(rows) > 90
    assert len({row["module"] for row in rows}) == len(rows)


def test_timm_registers_the_models_of_the_sweep() -> None:
    """A timm at least as new as the one that the sweep ran with knows all of them."""
    newest = max(Version(row["timm"]) for row in rows_of(TABLE))
    if Version(timm.__version__) < newest:
        pytest.skip(f"timm {timm.__version__} is older than {newest}, whose modules the sweep covers")
    assert set(models_of(rows_of(MODELS))) <= set(timm.list_models())


def test_committed_table() -> None:
    """It has the sweep's columns, and one row per model, of models of the sweep."""
    rows = rows_of(TABLE)
    assert list(rows[0]) == COLUMNS
    models = set(models_of(rows))
    assert len(models) == len(rows)
    assert models <= set(models_of(rows_of(MODELS)))
    for row in rows:
        assert row["build"], row


def write_page(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `timm_page.py`."""
    return subprocess.run([sys.executable, str(PAGE), *arguments], capture_output=True, text=True)


def test_page_and_table_agree() -> None:
    """The committed page has the section that the committed table gives."""
    ended = write_page("--check")
    assert ended.returncode == 0, f"run python {PAGE.relative_to(PAGE.parents[2])} {ended.stderr}"


def test_page_of_another_table(tmp_path: Path) -> None:
    """The section has the table's counts, reasons and one line per module; the text around it stays."""
    table = tmp_path / "timm.csv"
    page = tmp_path / "timm.md"
    no_rule = (
        "UnknownOperation: rnn: the effect of operation 'aten.lstm.input' on permutations of hidden units is not known; no"
    )
    rows = [
        ["b", "b_tiny", 1234567, 32, "yes", "yes", "yes", "yes", no_rule, 7.6, "1.0", "2.6", "EPYC"],
        ["a", "a_tiny", 20, 64, "yes", "is random | in evaluation mode", "", "", "yes", 7.4, "1.0", "2.6", "EPYC"],
        ["c", "c_tiny", 20, "", "not done after 3 s", "", "", "", "", 3.1, "1.0", "2.6", "EPYC"],
    ]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    committed = (PAGE.parents[2] / "docs" / "timm.md").read_text(encoding="utf-8")
    page.write_text(committed, encoding="utf-8")
    files = ["--table", str(table), "--page", str(page)]
    assert write_page("--check", *files).returncode == 1
    assert write_page(*files).returncode == 0
    assert write_page("--check", *files).returncode == 0
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


def test_page_without_markers(tmp_path: Path) -> None:
    """The page is refused and not changed."""
    page = tmp_path / "timm.md"
    page.write_text("# Networks\n")
    ended = write_page("--page", str(page))
    assert ended.returncode == 1
    assert "the table goes between them" in ended.stderr
    assert page.read_text() == "# Networks\n"


@pytest.mark.slow
def test_two_small_models(tmp_path: Path) -> None:
    """Every stage works; a second run tries only the models that the table lacks."""
    table = tmp_path / "timm.csv"
    first = sweep("test_resnet", table=table)
    both = sweep("test_resnet", "test_vit", table=table)
    assert list(both) == ["test_resnet", "test_vit"]
    assert both["test_resnet"] == first["test_resnet"]
    for row in both.values():
        for stage in (*NETWORKS, "symmetry"):
            assert row[stage] == "yes", row


@pytest.mark.slow
def test_model_that_exceeds_the_time_limit(tmp_path: Path) -> None:
    """Its row says so, and the next model is tried."""
    command = [sys.executable, str(SWEEP), "run", "test_resnet", "test_vit", "--table", str(tmp_path / "t.csv")]
    subprocess.run([*command, "--timeout", "0.1"], check=True, capture_output=True)
    assert [row["build"] for row in rows_of(tmp_path / "t.csv")] == ["not done after 0.1 s"] * 2


@pytest.mark.timm_sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", models_of(rows_of(MODELS)))
def test_every_module(model: str, tmp_path: Path) -> None:
    """The model is built, trained, reloaded and interpolated; aligned if the committed table says so."""
    row = sweep(model, table=tmp_path / "timm.csv")[model]
    for stage in NETWORKS:
        assert row[stage] == "yes", row
    known = {committed["model"]: committed["symmetry"] for committed in rows_of(TABLE)}
    if known.get(model) == "yes":
        assert row["symmetry"] == "yes"
