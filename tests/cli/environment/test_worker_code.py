"""Workers run the code of the run: no files of the working folder, no edited and no missing plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cli.command_line import python_path, run_harness, write_plugin
from cli.environment.small_benchmark import COMMAND, SMALL, results

SHADOWS = ["random.py", "numpy.py", "torch.py", "json.py", "platform.py", "yaml.py", "harness_basin/__init__.py"]


def write_shadows(folder: Path) -> None:
    for name in SHADOWS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("import pathlib\npathlib.Path('imported.txt').open('a').write(__file__)\n")


def test_files_named_as_libraries(folder: Path, finished_run: Path) -> None:
    """Neither the command nor its workers import them, and the rows are the same."""
    write_shadows(folder)
    command = [sys.executable, "-m", "harness", "run", "small.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported.txt").exists()
    assert results(folder) == results(finished_run)


def test_launch_script_named_harness(folder: Path, finished_run: Path) -> None:
    """Workers neither run it again nor import the files beside it."""
    write_shadows(folder)
    script = f"""
import os, subprocess
open("calls.txt", "a").write("called ")
if open("calls.txt").read().count("called") < 3:
    subprocess.run({[*COMMAND, "run", "small.yaml", "--workers", "2"]!r}, check=True)
"""
    (folder / "harness.py").write_text(script)
    subprocess.run([sys.executable, "harness.py"], cwd=folder, check=True, capture_output=True)
    assert (folder / "calls.txt").read_text() == "called "
    assert not (folder / "imported.txt").exists()
    assert results(folder) == results(finished_run)


def test_python_path_of_the_user(tmp_path: Path) -> None:
    """The command imports from PYTHONPATH, also from the working folder under a relative name."""
    write_plugin(tmp_path, "mine", "raise ImportError")
    for relative in (".", "", str(tmp_path)):
        path = os.pathsep.join([python_path(relative), ""])
        assert "plugin 'mine' of distribution 'mine 1.0'" in run_harness("list", "engine", cwd=tmp_path, PYTHONPATH=path).stderr
    assert run_harness("list", "engine", cwd=tmp_path).stderr == ""


PLUGIN = """
import os, pathlib
import harness
from torch import nn

HERE = pathlib.Path(__file__)

class Linear(harness.Architecture):
    name = "own_linear"

    def build(self, shape, num_classes):
        {trap}
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))

@harness.hookimpl
def register_architectures(register):
    register(Linear)
"""
EDIT = """
        if "worker" in __import__("sys").argv and not HERE.with_name("edited").exists():
            HERE.with_name("edited").touch()
            HERE.write_text(HERE.read_text() + "# edited")
            os._exit(3)
"""
SCRIPT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from harness.cli import main
main()
"""


@pytest.fixture
def plugin(folder: Path) -> Callable[[str], Path]:
    """Return a function that writes a plugin into a separate folder and changes the benchmark to use it."""

    def make(trap: str = "") -> Path:
        home = folder / "plugins"
        write_plugin(home, "own_linear", PLUGIN.replace("{trap}", trap.strip()))
        (folder / "small.yaml").write_text(yaml.safe_dump({**SMALL, "architectures": ["own_linear"]}))
        return home

    return make


def test_plugin_that_workers_do_not_find(folder: Path, plugin: Callable[[str], Path]) -> None:
    """If a script adds the plugin to its own path, the run ends with one line before it trains anything."""
    home = plugin("")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-P", "script.py", str(home), "run", "small.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "error: a worker process runs other code than the run: plugin 'own_linear': the run uses own_linear 1.0 from "
        f"{home / 'own_linear.py'}, the worker does not find it; install what the run uses where workers find it"
    ) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "runs" / "store" / "objects").rglob("*.safetensors"))
    alone = subprocess.run([*command[:-1], "1"], cwd=folder, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr


def test_plugin_edited_during_a_run(folder: Path, plugin: Callable[[str], Path]) -> None:
    """The run ends when a restarted worker has the new code; the same command continues with it."""
    home = plugin(EDIT)
    path = python_path(home)
    done = run_harness("run", "small.yaml", "--workers", "2", cwd=folder, code=1, PYTHONPATH=path)
    place = f"own_linear 1.0 from {home / 'own_linear.py'}"
    assert f"plugin 'own_linear': the run uses {place} (sources " in done.stderr
    assert f"), the worker {place} (sources " in done.stderr
    assert "), whose sources have changed since the run began; " in done.stderr
    run_harness("run", "small.yaml", "--workers", "2", cwd=folder, PYTHONPATH=path)


def test_unreadable_code_version(tmp_path: Path) -> None:
    """A worker refuses it, also if it is started by hand."""
    done = run_harness("worker", "--task", "a", "--run-code", "{}", cwd=tmp_path, code=1)
    assert "error: the run's code version is not readable" in done.stderr
