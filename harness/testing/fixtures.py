"""Fixtures for tests of plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.registry.catalogue import Catalogue, load_catalogue


@pytest.fixture(scope="session")
def harness_catalogue() -> Catalogue:
    """The catalogue of installed plugins. The test fails if a plugin could not be used."""
    catalogue = load_catalogue()
    assert not catalogue.problems, "\n".join(catalogue.problems)
    return catalogue


@pytest.fixture
def harness_run(tmp_path: Path, harness_catalogue: Catalogue) -> Callable[[str], Any]:
    """A function that runs a benchmark, given as YAML text, on the CPU and returns its rows as a DataFrame.

    Files are written to pytest's temporary folder. Observers of installed plugins are called as in any run.
    """

    def run(text: str) -> Any:
        import harness

        file = tmp_path / "benchmark.yaml"
        file.write_text(text, encoding="utf-8")
        finished = harness.run(
            file,
            out=tmp_path / "run",
            store=tmp_path / "store",
            data=tmp_path,
            workers=1,
            device="cpu",
            progress=False,
            catalogue=harness_catalogue,
        )
        return finished.rows

    return run
