"""`run.json` of a run's folder: read, missing, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.results.run_json import load_run_json


def test_run_json(tmp_path: Path) -> None:
    """Its content is returned."""
    (tmp_path / "run.json").write_text('{"status": "done"}')
    assert load_run_json(tmp_path, "run again") == {"status": "done"}


def test_no_run_json(tmp_path: Path) -> None:
    """A missing file is None."""
    assert load_run_json(tmp_path, "run again") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"not readable as JSON: .*; run again$"),
        (b"\xff", r"not readable as JSON: .*; run again$"),
        (b"[" * 100_000, r"not readable as JSON: .*; run again$"),
        (b"[]", r"holds no JSON object; run again$"),
    ],
    ids=["cut short", "no text", "nested too deeply", "a list"],
)
def test_damaged_run_json(tmp_path: Path, content: bytes, message: str) -> None:
    """The error names the file, the damage and the remedy."""
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"run\.json: {message}"):
        load_run_json(tmp_path, "run again")


def test_folder_named_run_json(tmp_path: Path) -> None:
    """The error gives the system's reason."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UserError, match=r"run\.json: cannot be read: Is a directory$"):
        load_run_json(tmp_path, "run again")
