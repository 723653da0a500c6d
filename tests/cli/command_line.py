"""The command line in a process of its own, a small benchmark for it, and plugins on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE: dict[str, Any] = {
    "name": "small",
    "seeds": [0],
    "members": 2,
    "datasets": [{"digits": {"train_size": 192, "test_size": 100}}],
    "architectures": [{"resnet20": {"width": 0.125}}],
    "methods": ["deep", {"constrained": {"fork_epoch": 1}}],
    "metrics": ["ensemble_accuracy", {"joint_connectivity": {"draws": 3}}],
    "recipe": {"epochs": 2, "batch_size": 64, "augmentation": {"crop_padding": 1, "horizontal_flip": False}},
}
"""Two methods of two tiny networks on digits."""


def run_harness(*words: object, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `harness WORDS` and check its exit code; it never prints a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def write_plugin(folder: Path, name: str, code: str) -> None:
    """Write a plugin of one module, with its entry point in the group `harness`."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[harness]\n{name} = {name}\n")
    (folder / f"{name}.py").write_text(code)


def python_path(*folders: Path | str) -> str:
    """Return PYTHONPATH with folders before it."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*map(str, folders), *([inherited] if inherited else [])])
