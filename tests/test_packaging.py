"""The wheel: its contents, and that its installation lists and runs the same plugins as the source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """Run a command that must succeed, without the source tree on the path; return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source tree without network access."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("basin_harness-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The folder of a virtual environment with the wheel, the example plugin, and links to this environment's dependencies."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # Link all dependencies, but not the editable installation of the source tree.
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(("basin_harness", "_basin_harness", "_editable_impl_basin", "basin_example")):
            (site / entry.name).symlink_to(entry)
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q")
    run(*install, wheel, cwd=folder)
    run(*install, "--no-build-isolation", ROOT / "tests" / "example_plugin", cwd=folder)
    return folder


def files_in(root: Path, package: str) -> set[str]:
    """Return the files of a package, relative to the folder that holds it, without compiled ones."""
    files = (path for path in (root / package).rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in files if "__pycache__" not in path.parts}


def test_wheel_contents(wheel: Path) -> None:
    """The wheel has the packages `harness` and `harness_*` alone, with every file of the source tree."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    plugins = {"harness_basin", "harness_vision", "harness_metrics", "harness_slurm", "harness_ray", "harness_loggers"}
    assert packages == {"harness", *plugins}
    assert files_in(ROOT, "harness") <= names
    for package in packages - {"harness"}:
        assert files_in(ROOT / "plugins", package) <= names


def test_installed_wheel_lists_the_plugins_of_the_tree(elsewhere: Path) -> None:
    """Plugins, options and defaults equal those of the source tree; the example plugin is listed too."""
    there = json.loads(run(elsewhere / "venv" / "bin" / "harness", "list", "--json", cwd=elsewhere))
    here = json.loads(run(sys.executable, "-m", "harness", "list", "--json", cwd=elsewhere))
    assert [entry for entry in there if entry["plugin"] != "example"] == here
    assert {entry["name"] for entry in there if entry["plugin"] == "example"} == {
        "warm_start",
        "soft_perceptron",
        "weight_spread",
        "spread_by_method",
    }


def test_third_party_plugin_runs_by_name(elsewhere: Path) -> None:
    """The installed wheel runs a benchmark with the example's builder, architecture and metric and with built-in plugins."""
    file = {
        "name": "third",
        "seeds": [0],
        "members": 2,
        "datasets": ["digits"],
        "architectures": [{"soft_perceptron": {"hidden": 8}}],
        "methods": ["deep", {"warm_start": {"shared_epochs": 1}}],
        "metrics": ["ensemble_accuracy", "weight_spread"],
        "recipe": {"epochs": 3, "batch_size": 64, "augmentation": {"crop_padding": 0, "horizontal_flip": False}},
    }
    (elsewhere / "third.yaml").write_text(yaml.safe_dump(file))
    board = run(elsewhere / "venv" / "bin" / "harness", "run", "third.yaml", cwd=elsewhere)
    assert "warm_start" in board
    assert "weight_spread" in board
    rows = (elsewhere / "runs" / "third" / "results.csv").read_text().splitlines()
    assert len(rows) > 1
    assert [row for row in rows[1:] if ",done," not in row] == []
