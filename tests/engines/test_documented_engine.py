"""The engine on the page about plugins works as it stands, with a stand-in for ssh."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from engines.conftest import Driver
from harness import Engine
from harness.telemetry.events import WorkerDescribed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def documented_engine() -> type[Engine]:
    """Return the class that the section's code registers."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n## An engine of your own\n")
    code = section.partition("```python\n")[2].partition("\n```\n")[0]
    module = ModuleType("example")
    exec(compile(code, str(PAGE), "exec"), vars(module))
    found: list[type[Engine]] = []
    vars(module)["register_engines"](found.append)
    return found[0]


@pytest.mark.slow
def test_engine_over_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drive: Callable[[Engine], Driver]) -> None:
    """Both hosts do tasks, and end when the engine is closed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    cls = documented_engine()
    with drive(cls(cls.Options(hosts=("node1", "node2")))) as driver:
        outcomes = driver.run([1, 1])
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    places = {event.place for event in driver.events if isinstance(event, WorkerDescribed)}
    assert places <= {"worker on node1", "worker on node2"}
