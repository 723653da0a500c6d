"""Fixtures of the tests of unusual environments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.command_line import python_path, run_harness, write_plugin
from cli.environment.small_benchmark import POINTS, SMALL


@pytest.fixture(scope="session")
def points_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin of `points` and `line`."""
    folder = tmp_path_factory.mktemp("points")
    write_plugin(folder, "points", POINTS)
    return folder


@pytest.fixture(autouse=True, scope="module")
def points_on_path(points_folder: Path) -> Iterator[None]:
    """Put the plugin of `points` and `line` on PYTHONPATH."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path(points_folder))
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, points_folder: Path) -> Path:
    """A folder with a benchmark file and a finished run in an ordinary environment."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    run_harness("run", "small.yaml", "--workers", "1", cwd=folder, PYTHONPATH=python_path(points_folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a benchmark file."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path
