"""The tutorial in docs/plugins.md shows the files that `harness new-plugin my-method` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"
BLOCK = re.compile(r"^`my-method/([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown() -> dict[str, str]:
    """Return the files of the tutorial by name."""
    text = PAGE.read_text(encoding="utf-8")
    start = text.index("## From an empty folder to a board")
    tutorial = text[start : text.index("\n## ", start + 1)]
    return dict(BLOCK.findall(tutorial))


def test_files_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is what the command writes, to the letter; only the README is not shown."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["new-plugin", "my-method"]).exit_code == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "my-method").iterdir()}
    del written["README.md"]
    assert shown() == written
