"""The wheel: what it holds, and that installed elsewhere it lists and runs what the tree does."""

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
    """Run a command that must succeed, away from the tree."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the tree, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("basin_harness-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """A virtual environment with the wheel and the example plugin, its dependencies borrowed from this one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # The dependencies are seen through copies of links, the editable install of this tree is not.
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(("basin_harness", "_basin_harness", "_editable_impl_basin", "basin_example")):
            (site / entry.name).symlink_to(entry)
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q")
    run(*install, wheel, cwd=folder)
    run(*install, "--no-build-isolation", ROOT / "tests" / "example_plugin", cwd=folder)
    return folder


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    """Only `harness` and `harness_*` land in site-packages, with every file of the tree."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "harness",
        "harness_basin",
        "harness_vision",
        "harness_metrics",
    }
    tree = {str(p.relative_to(ROOT)) for p in (ROOT / "harness").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    tree |= {
        str(p.relative_to(ROOT / "plugins"))
        for p in (ROOT / "plugins").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert tree <= set(names)


def test_installed_wheel_lists_the_same(elsewhere: Path) -> None:
    """Plugins, options and defaults are those of the tree; the example plugin stands beside them."""
    there = json.loads(run(elsewhere / "venv" / "bin" / "harness", "list", "--json", cwd=elsewhere))
    here = json.loads(run(sys.executable, "-m", "harness", "list", "--json", cwd=elsewhere))
    assert [e for e in there if e["plugin"] != "example"] == here
    assert {e["name"] for e in there if e["plugin"] == "example"} == {
        "warm_start",
        "soft_perceptron",
        "weight_spread",
        "spread_by_method",
    }


def test_third_partys_plugin_runs_by_name(elsewhere: Path) -> None:
    """A benchmark with the example's builder, architecture and metric runs beside the built-in ones, from the wheel."""
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
    assert all(",done," in row for row in rows[1:])
