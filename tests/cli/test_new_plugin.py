"""`harness new-plugin`: a template whose members learn, and names that it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.command_line import python_path, run_harness
from harness.cli import cli
from harness.errors import UserError

REFUSED = {
    "torch": "'torch': a module 'torch' is installed, and the plugin would hide it; take another name, such as 'torch-method'",
    "numpy": "'numpy': a module 'numpy' is installed, and the plugin would hide it; take another name, such as 'numpy-method'",
    "json": "'json': a module 'json' is installed, and the plugin would hide it; take another name, such as 'json-method'",
    "sys": "'sys': a module 'sys' is installed, and the plugin would hide it; take another name, such as 'sys-method'",
    "scikit-learn": (
        "'scikit-learn': a distribution of that name is installed, and the plugin would replace it; "
        "take another name, such as 'scikit-learn-method'"
    ),
    "PyYAML": (
        "'PyYAML': a distribution of that name is installed, and the plugin would replace it; "
        "take another name, such as 'PyYAML-method'"
    ),
    "harness": "'harness' looks like one of the harness's own packages; take another name, such as 'my-method'",
    "harness-mine": "'harness-mine' looks like one of the harness's own packages; take another name, such as 'my-method'",
}


def installed(folder: Path) -> str:
    """Write the template, and what an installation adds to it; return the PYTHONPATH with both."""
    run_harness("new-plugin", "my-method", cwd=folder)
    info = folder / "my_method-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-method\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nmy_method = my_method\n")
    return python_path(folder, folder / "my-method")


@pytest.mark.parametrize("name", REFUSED)
def test_name_that_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused in one line with the next step, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["new-plugin", name])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == REFUSED[name]
    assert list(tmp_path.iterdir()) == []


def test_name_of_a_plain_folder_on_the_path(tmp_path: Path) -> None:
    """A folder without modules hides nothing and is hidden by nothing: the name is free."""
    (tmp_path / "elsewhere" / "my_folder").mkdir(parents=True)
    run_harness("new-plugin", "my-folder", cwd=tmp_path, PYTHONPATH=python_path(tmp_path / "elsewhere"))


def test_dependencies_of_the_template(tmp_path: Path) -> None:
    """Its pyproject.toml names what its test needs, and its README installs that."""
    installed(tmp_path)
    project = tomllib.loads((tmp_path / "my-method" / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["test"] == ["pytest>=8.0"]
    assert "pip install -e '.[test]'" in (tmp_path / "my-method" / "README.md").read_text()


@pytest.mark.slow
def test_members_of_the_template_learn(tmp_path: Path) -> None:
    """The template's own test passes: no member is at chance, and the mean member of each method has more than 80 %."""
    path = installed(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "harness.testing", "-p", "no:cacheprovider", "."]
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path / "my-method", capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
