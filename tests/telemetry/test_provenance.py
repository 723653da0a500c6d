"""Where results come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.telemetry.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]


def test_commit_of_a_working_copy_is_recorded() -> None:
    """A run from a git checkout records the commit that `git rev-parse HEAD` prints there."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    git = provenance()["git"]
    assert git["commit"] == head
    assert isinstance(git["clean"], bool)
