"""What is said about the quickstart's duration agrees with its measured profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli

ROOT = Path(__file__).resolve().parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"


def texts() -> dict[str, str]:
    """Return the texts that name the duration, each on one line."""
    found = {
        "README.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "quickstart.yaml": (BENCHMARKS / "quickstart.yaml").read_text(encoding="utf-8"),
        "harness --help": CliRunner().invoke(cli, ["--help"]).output,
    }
    return {name: " ".join(text.split()) for name, text in found.items()}


@pytest.mark.parametrize("name", ["README.md", "quickstart.yaml", "harness --help"])
def test_duration_of_the_quickstart(name: str) -> None:
    """The README, the file and the help all say two minutes on two cores."""
    assert "about two minutes on two CPU cores" in texts()[name]


def test_measured_duration_of_the_quickstart() -> None:
    """The measured run was that of two worker processes, and took about two minutes."""
    profile = json.loads((BENCHMARKS / "results" / "profiles" / "quickstart.json").read_text(encoding="utf-8"))
    assert sum(process["role"] == "worker" for process in profile["processes"]) == 2
    assert 90 < profile["wall_seconds"] < 150
