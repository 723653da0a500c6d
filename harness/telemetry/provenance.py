"""Where numbers come from: package versions, hardware, the state of the working copy. Recorded everywhere, part of no key."""

from __future__ import annotations

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
    """Return it as JSON, for this process."""
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
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _git() -> dict[str, Any] | None:
    """Return commit and cleanliness of the working copy this package runs from, if it does."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    ask = partial(subprocess.run, capture_output=True, text=True, cwd=here, timeout=10, check=True)
    try:
        commit = ask(["git", "rev-parse", "HEAD"]).stdout.strip()
        return {"commit": commit, "clean": not ask(["git", "status", "--porcelain"]).stdout.strip()}
    except (OSError, subprocess.SubprocessError):
        return None
