"""`harness doctor --engine`: what is found wrong with the worker that an engine starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import toys
from harness import Engine, EngineContext, Outcome, Task
from harness.errors import HarnessError
from harness.runs.engine_check import EngineTrial, Finding, try_engine
from harness.telemetry.events import RunWarning, WorkerDescribed


class Scripted(Engine):
    """An engine whose worker says what a test wants."""

    name = "scripted"
    fields: dict[str, Any] = {}
    clock = 0.0
    status: Any = "done"
    problem = ""

    def open(self, context: EngineContext) -> None:
        self.context = context

    @property
    def has_capacity(self) -> bool:
        return True

    def submit(self, group: Sequence[Task]) -> None:
        (self.task,) = group

    def wait(self) -> Sequence[Outcome]:
        if self.problem:
            raise HarnessError(self.problem)
        seen = {"host": "node1", "device": "CPU", "cpus": "1 CPU", "data_root": "/data", "data": (), "lease_acquired": False}
        self.context.emit(RunWarning(message="a job waits"))
        self.context.emit(WorkerDescribed(task=self.task.key, **{**seen, **self.fields}))
        message = "" if self.status == "done" else "no locks"
        return [Outcome(self.task.key, self.status, message, ended=time.time() + self.clock)]

    def close(self) -> None:
        pass


def findings(folder: Path, **attributes: Any) -> list[Finding]:
    """Try a scripted engine; return what is found."""
    engine = type("Changed", (Scripted,), attributes)()
    found: list[Finding] = []
    data = folder / "data"
    (data / "cifar10").mkdir(parents=True)
    trial = EngineTrial(engine, toys.catalogue(), folder / "store", data, folder / "out", "cpu", lambda: False)
    try_engine(trial, found.append)
    return found


def test_worker_like_this_machine(tmp_path: Path) -> None:
    """Nothing is wrong; warnings of the engine are shown."""
    found = findings(tmp_path, fields={"data": ("cifar10", "digits")})
    assert [finding for finding in found if finding.is_problem] == []
    assert [finding.subject for finding in found] == ["warning", "worker", "locks", "clock", "data"]
    assert found[-1].text == "/data on node1: cifar10, digits"


@pytest.mark.parametrize(
    ("attributes", "subject", "text"),
    [
        (
            {"fields": {"lease_acquired": True}},
            "locks",
            "do not reach node1: it locked what this process had locked; one run at a time may",
        ),
        ({"clock": 90.0}, "clock", "node1 is 90 seconds ahead; results do not depend on it"),
        ({"clock": -90.0}, "clock", "node1 is 90 seconds behind"),
        ({}, "data", "/data on node1 lacks cifar10, which "),
        ({"status": "failed"}, "worker", "no locks"),
        ({"problem": "a worker process runs other code"}, "worker", "a worker process runs other code"),
    ],
)
def test_worker_with_a_problem(tmp_path: Path, attributes: dict[str, Any], subject: str, text: str) -> None:
    """The line says what is wrong, and where."""
    problems = {finding.subject: finding.text for finding in findings(tmp_path, **attributes) if finding.is_problem}
    assert text in problems[subject]
