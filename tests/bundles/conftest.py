"""One run of toys and its bundle, for all tests of bundles. Tests that change the bundle copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from bundles.toy_bundles import publish_toys, run_toys


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    """A finished run of toys: two methods, two seeds, two members, of which they share one per seed."""
    return run_toys(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def toy_bundle(toy_run: harness.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that run."""
    target = tmp_path_factory.mktemp("bundles") / "bundle"
    publish_toys(toy_run, target)
    return target
