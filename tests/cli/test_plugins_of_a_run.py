"""`run.json` names the plugins that a run was made with."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cli.command_line import FILE, python_path, run_harness, write_plugin

OBSERVER = """
import harness

@harness.hookimpl
def observe_event(event):
    pass
"""


def test_plugins_in_run_json(tmp_path: Path) -> None:
    """Each loaded plugin is there with the name and version of its distribution, also one that only observes; no path is."""
    site = tmp_path / "site"
    write_plugin(site, "watcher", OBSERVER)
    write_plugin(site, "broken", "raise RuntimeError('no')")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**FILE, "methods": ["deep"], "metrics": ["ensemble_accuracy"]}))
    run_harness("run", "small.yaml", "--set", "recipe.epochs=1", cwd=tmp_path, PYTHONPATH=python_path(site))
    text = (tmp_path / "runs" / "small" / "run.json").read_text()
    plugins = json.loads(text)["provenance"]["plugins"]
    assert {"plugin": "watcher", "distribution": "watcher", "version": "1.0"} in plugins
    names = ["basin", "engines", "loggers", "metrics", "ray", "slurm", "vision", "watcher"]
    assert [plugin["plugin"] for plugin in plugins] == names
    assert all(plugin["version"] for plugin in plugins)
    assert str(site) not in text
