"""Provenance of results: package versions, hardware, git commit. Recorded with every result, but part of no key."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


@cache
def provenance() -> dict[str, Any]:
    """Return the provenance of results of this process as JSON."""
    packages = {}
    for name in ("basin-harness", "torch", "torchvision", "timm", "numpy", "scipy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    cuda = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "packages": packages,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "git": _git(),
    }


def _processor() -> str:
    """Return the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                _, _, model = line.partition(":")
                return model.strip()
    return platform.processor() or "unknown"


def _git() -> dict[str, Any] | None:
    """Return the commit of the git checkout that this package runs from, and whether it is clean; None without a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    run = partial(subprocess.run, capture_output=True, text=True, cwd=root, timeout=10, check=True)
    try:
        commit = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        changes = run(["git", "status", "--porcelain"]).stdout.strip()
        return {"commit": commit, "clean": not changes}
    except (OSError, subprocess.SubprocessError):
        return None
