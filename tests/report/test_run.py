"""Folders of runs that cannot be read: the error names the file and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.report import read_run
from run_folder import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def test_folder_without_rows(tmp_path: Path) -> None:
    """The error says which folder to name."""
    with pytest.raises(UserError) as error:
        read_run(tmp_path)
    assert str(error.value) == f"{tmp_path}: no results.csv; name a folder that `harness run FILE --out DIR` has written"


def test_file_in_place_of_a_folder(folder: Path) -> None:
    """The error says which folder to name, also for the file of rows."""
    path = folder / "results.csv"
    with pytest.raises(UserError) as error:
        read_run(path)
    assert str(error.value) == f"{path}: not a folder; name the one that `harness run FILE --out DIR` has written"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ": not readable as JSON: .*; remove it to make a report without it$"),
        ("[]", ": holds no JSON object; remove it to make a report without it$"),
    ],
)
def test_damaged_run_json(folder: Path, content: str, message: str) -> None:
    """The error names the file and the next step."""
    (folder / "run.json").write_text(content)
    with pytest.raises(UserError, match=f"run\\.json{message}"):
        read_run(folder)


def test_files_that_are_folders(folder: Path) -> None:
    """The error gives the system's reason."""
    for name in ("events.jsonl", "run.json"):
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(UserError, match=rf"{name}: cannot be read: Is a directory$"):
            read_run(folder)
