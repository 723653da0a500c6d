"""The notebooks of the documentation run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.results.rows import read_rows

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    """The tests below test something."""
    assert [path.name for path in NOTEBOOKS] == ["first_board.ipynb"]


def outputs(notebook: Any, kind: str) -> list[Any]:
    """Return what the cells of a notebook show, of one MIME type."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if kind in output.get("data", {}):
                found.append(output["data"][kind])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs in a fresh kernel; the board, and the plot that it promises, are shown."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for variable in ("HARNESS_STORE", "HARNESS_DATA"):
        monkeypatch.delenv(variable, raising=False)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    boards = [text for text in outputs(notebook, "text/html") if 'class="leaderboard"' in text]
    assert len(boards) == 1
    assert outputs(notebook, "image/png")
    rows = read_rows(tmp_path / "runs" / "notebook")
    connectivity = rows[rows["metric"] == "joint_connectivity"].set_index("method")["value"]
    assert connectivity["deep"] < -20
    assert connectivity["constrained"] > -5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_outputs_name_no_machine(path: Path) -> None:
    """The outputs that are kept for readers hold no absolute paths and no errors."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|tmp|work|root|Users)/", text)
    assert "Traceback" not in text
