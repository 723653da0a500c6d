"""Wheels for a machine with torch but without the internet: collect them here, install what is missing there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from gpu_parts import ROOT

PYTHON = "3.12"
MAX_BYTES = 60 * 2**20

EXPECTED = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow")
"""Large packages that a machine for torch has; they are not carried."""

WITHOUT_DEPENDENCIES = ("timm", "pandas", "safetensors")
"""Packages whose dependencies are large, expected, or listed by this project too."""

FOR_TESTS = ("pytest", "pytest-timeout", "hypothesis", "torchmetrics")
"""Extras of the tests that need a GPU. `torchmetrics` is carried without its dependencies."""


class PrepareError(Exception):
    """Wheels cannot be collected; the message says why."""


def prepare(folder: Path) -> list[str]:
    """Build the project's wheel and download wheels of its dependencies into a folder; return lines for the user.

    Raise `PrepareError` if they are more than 60 MiB together, or if pip fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _pip("wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder), str(ROOT))
    closed, open_ended = requirements()
    _download(folder, open_ended)
    _download(folder, closed, "--no-deps")
    return describe(folder)


def requirements() -> tuple[list[str], list[str]]:
    """Return the requirements that are downloaded without their dependencies, and those that are downloaded with them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tests = [text for text in project["optional-dependencies"]["test"] if _name(text) in FOR_TESTS]
    closed: list[str] = []
    open_ended: list[str] = []
    for text in [*project["dependencies"], *tests]:
        if _name(text) in EXPECTED:
            continue
        alone = _name(text) in (*WITHOUT_DEPENDENCIES, "torchmetrics")
        (closed if alone else open_ended).append(text)
    return closed, open_ended


def _name(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement, maxsplit=1)[0].lower()


def describe(folder: Path) -> list[str]:
    """Return a line per wheel, the largest first, and their total. Raise `PrepareError` if that is more than 60 MiB."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.whl")}
    largest = sorted(sizes, key=lambda name: -sizes[name])
    total = sum(sizes.values())
    lines = [f"{sizes[name] / 2**20:8.2f} MiB  {name}" for name in largest]
    if total > MAX_BYTES:
        big = ", ".join(f"{name} ({sizes[name] / 2**20:.0f} MiB)" for name in largest[:3])
        raise PrepareError(
            f"{folder}: {total / 2**20:.0f} MiB of wheels; at most {MAX_BYTES // 2**20} MiB can be carried. The largest: {big}"
        )
    return [*lines, f"{total / 2**20:8.2f} MiB  in {len(sizes)} wheels; install them there with --wheels {folder.name}"]


def install_command(folder: Path) -> list[str]:
    """Return the command that installs the project, and what it needs and the machine lacks, from a folder of wheels."""
    tests = [name for name in FOR_TESTS if name != "torchmetrics"]
    words = ["install", "--no-index", "--no-compile", "--disable-pip-version-check", "--find-links", str(folder)]
    return [sys.executable, "-m", "pip", *words, "basin-harness", *tests]


def _download(folder: Path, requirements: Sequence[str], *options: str) -> None:
    platforms = [word for minor in range(17, 36) for word in ("--platform", f"manylinux_2_{minor}_x86_64")]
    target = ["--python-version", PYTHON, "--implementation", "cp", *platforms, "--platform", "manylinux2014_x86_64"]
    _pip("download", "--quiet", "--only-binary=:all:", *target, *options, "--dest", str(folder), *requirements)


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise PrepareError(f"pip {words[0]} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
