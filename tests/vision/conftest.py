"""Fixtures of the vision tests. No test uses the network; tests on real data need HARNESS_DATA."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from vision.tiny_copy import write_copy


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every request fail, as it does without a network."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return a function that gives the data root with a data set's folder, and skips the test if there is none."""

    def root(folder: str) -> Path:
        data = os.environ.get("HARNESS_DATA")
        if not data or not (Path(data) / folder).is_dir():
            pytest.skip(f"HARNESS_DATA names no folder with {folder}")
        return Path(data)

    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give huggingface_hub and torch.hub empty cache folders; return the first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a data root with three small classes in the layout of Tiny ImageNet."""
    return write_copy(tmp_path / "data")
