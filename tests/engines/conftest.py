"""A stand-in for Slurm, and functions that drive an engine with probes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.api.engine import Engine
from harness.api.task import Outcome
from harness.execution.probes import probe_context, stored_probe
from harness.registry.catalogue import load_catalogue
from harness.store import Store
from harness.telemetry.events import Event

FAKE_SLURM = Path(__file__).parent / "fake_slurm"


class FakeSlurm:
    """The jobs of the stand-in: a folder for each, named by its number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_mode(self, mode: str) -> None:
        """Choose what happens to the next jobs: run, pending, or unreachable."""
        (self.folder / "mode").write_text(mode)

    def jobs(self) -> list[int]:
        """Return the numbers of the jobs."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def arguments(self, job: int) -> list[str]:
        """Return the arguments that sbatch got."""
        return (self.folder / str(job) / "arguments").read_text().splitlines()

    def pid(self, job: int) -> int:
        """Return the process of a running job."""
        return int((self.folder / str(job) / "pid").read_text())

    def set_state(self, job: int, state: str) -> None:
        """Let squeue print a state."""
        path = self.folder / str(job) / "state"
        path.with_suffix(".part").write_text(state)
        path.with_suffix(".part").rename(path)  # squeue may look at any time

    def state(self, job: int) -> str:
        """Return the state that squeue prints."""
        done = subprocess.run(["squeue", f"--jobs={job}"], capture_output=True, text=True, check=True)
        return done.stdout.split("|")[1]


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """The stand-in, first in PATH."""
    if shutil.which("bash") is None or shutil.which("setsid") is None:
        pytest.skip("the stand-in for Slurm needs bash and setsid")
    folder = tmp_path / "fake-slurm"
    folder.mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{FAKE_SLURM}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)


class Driver:
    """Runs probes through one engine, as the runner runs tasks, and records the events."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.store = Store(folder / "store")
        self.store.prepare()
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self._folder = folder

    def __enter__(self) -> Driver:
        self.engine.open(probe_context(load_catalogue(), self._folder, self._emit, lambda: False))
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def run(self, seconds: Sequence[float]) -> list[Outcome]:
        """Do a probe for each number of seconds; return the outcomes."""
        for each in seconds:
            self.engine.submit([stored_probe(self.store, each)])
        ended: list[Outcome] = []
        while len(ended) < len(seconds):
            ended += self.engine.wait()
        return ended

    def messages(self, kind: type[Event]) -> list[str]:
        """Return the messages of all events of a class."""
        return [event.message for event in self.events if isinstance(event, kind)]  # type: ignore[attr-defined]

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition is true; fail after a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"the condition was not true within {seconds:g} seconds")
        time.sleep(0.05)


@pytest.fixture
def drive(tmp_path: Path) -> Callable[[Engine], Driver]:
    """Return a function that makes a driver of an engine."""
    return lambda engine: Driver(engine, tmp_path)
