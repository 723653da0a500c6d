"""No test here reaches the network; those on real data run where HARNESS_DATA names a folder that has it."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every request fail as it does without a network."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return a function from the folder of a data set to the data root that has it; skip the test where none does."""

    def root(folder: str) -> Path:
        data = os.environ.get("HARNESS_DATA")
        if not data or not (Path(data) / folder).is_dir():
            pytest.skip(f"HARNESS_DATA names no folder with {folder}")
        return Path(data)

    return root
