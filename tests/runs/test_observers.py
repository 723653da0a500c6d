"""Observers that a run names: which ones it has, what they see, and what the run does when they fail."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
import toys
from harness import ObservedRun, Observer, RunResults, UserError, events
from harness.errors import PluginError
from harness.runs.observers import MAX_BACKLOG, ObserverThread
from harness_loggers.trainings import TrainingLogger

BENCHMARK: dict[str, Any] = {
    "name": "toys",
    "seeds": [0],
    "members": 1,
    "datasets": ["blobs"],
    "architectures": ["perceptron"],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
    "recipe": {"epochs": 2, "batch_size": 32, "precision": "fp32", "augmentation": {"crop_padding": 0}},
}
calls: list[tuple[str, Any]] = []
"""What the observers of this module were asked to do, in order."""


class Diary(Observer):
    """Notes what it is asked to do."""

    name = "diary"

    class Options(harness.Options):
        """Options."""

        title: str = "untitled"
        fail_in: str = ""

    def check(self) -> None:
        self._note("check", threading.current_thread())

    def start(self, run: ObservedRun) -> None:
        self._note("start", run)

    def observe(self, event: events.Event) -> None:
        self._note("observe", event)

    def finish(self, results: RunResults) -> None:
        self._note("finish", results)

    def close(self) -> None:
        self._note("close", threading.current_thread())

    def _note(self, what: str, content: Any) -> None:
        calls.append((what, content if what != "start" else (self.options.title, content)))
        if what == self.options.fail_in:
            raise SystemExit(f"it fails in {what}")


class Demanding(Observer):
    """Cannot work here."""

    name = "demanding"

    def check(self) -> None:
        raise UserError("needs a moon; wait for one")

    def observe(self, event: events.Event) -> None:
        raise AssertionError


class Unfinished(TrainingLogger):
    """A logger whose library is not installed."""

    name = "unfinished"
    package = "no_such_package_anywhere"

    def open_training(self, training: Any) -> Any:
        raise AssertionError

    def log_results(self, results: RunResults) -> None:
        raise AssertionError


CATALOGUE = toys.catalogue(("observer", Diary), ("observer", Demanding), ("observer", Unfinished))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., harness.Run]:
    """A function that runs the benchmark, with changes and options."""

    def start(changes: dict[str, Any] | None = None, **options: Any) -> harness.Run:
        return harness.run(
            {**BENCHMARK, **(changes or {})},
            out=tmp_path / "run",
            store=tmp_path / "store",
            data=tmp_path,
            workers=1,
            device="cpu",
            progress=False,
            catalogue=CATALOGUE,
            **options,
        )

    return start


def said(what: str) -> list[Any]:
    """Return the contents of the calls of one method."""
    return [content for called, content in calls if called == what]


def test_run_that_names_no_observer(run: Callable[..., harness.Run]) -> None:
    """No registered observer is called."""
    run()
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "options", "title"),
    [
        ({"observe": ["diary"]}, {}, "untitled"),
        ({"observe": [{"diary": {"title": "file"}}]}, {}, "file"),
        ({"observe": [{"diary": {"title": "file"}}]}, {"observe": ["diary"]}, "file"),
        ({"observe": [{"diary": {"title": "file"}}]}, {"observe": [{"diary": {"title": "call"}}]}, "call"),
        ({}, {"observe": [{"diary": None}]}, "untitled"),
        ({}, {"observe": ["diary", "diary"]}, "untitled"),
    ],
)
def test_options_of_an_observer(
    run: Callable[..., harness.Run], changes: dict[str, Any], options: dict[str, Any], title: str
) -> None:
    """It is called once, with the options of the call, or else those of the file, or else its defaults."""
    run(changes, **options)
    assert [found for found, _ in said("start")] == [title]


def test_calls_of_an_observer(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """It is checked first, and then called in order on one thread: facts, every event of the log, results, close."""
    seen: list[events.Event] = []
    finished = run(observe=["diary"], observers={"list": seen.append})
    names = [name for name, _ in calls]
    assert names == ["check", "start", *["observe"] * len(seen), "finish", "close"]
    assert said("check") == [threading.main_thread()]
    assert said("close") != [threading.main_thread()]
    [(_, facts)] = said("start")
    assert (facts.benchmark, facts.objective, facts.folder) == ("toys", "cross_entropy", tmp_path / "run")
    assert facts.settings["pairs"][0]["recipe"]["epochs"] == 2
    assert said("observe") == seen
    [results] = said("finish")
    assert results.status == "done"
    assert results.rows.equals(finished.rows)
    assert harness.leaderboard.render(results.board) == finished.leaderboard("markdown")


def test_observers_are_no_part_of_the_results(run: Callable[..., harness.Run]) -> None:
    """A run with an observer has nothing to do after one without, and its description says the same of the benchmark."""
    first = (run().folder / "run.json").read_text()
    run({"observe": ["diary"]})
    assert not [event for event in said("observe") if isinstance(event, events.TaskEvent)]
    assert first.partition('"status"')[0] == (run().folder / "run.json").read_text().partition('"status"')[0]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"observe": ["dairy"]}, "unknown observer 'dairy'; did you mean 'diary'? known: demanding, diary, tensorboard,"),
        (
            {},
            {"observe": [{"diary": {"titel": 1}}]},
            "observer 'diary': unknown key 'titel'; did you mean 'title'? known: fail_in, title",
        ),
        ({}, {"observe": [{"diary": {"title": 1}}]}, "observer 'diary': title: 1 is not a text"),
        ({}, {"observe": [3]}, r"observe: 3 is no observer; a name, or {name: {option: value}}"),
        ({}, {"observe": [{"diary": {}, "demanding": {}}]}, "is no observer; a name, or {name: {option: value}}"),
        ({}, {"observe": ["demanding"]}, "observer 'demanding': needs a moon; wait for one"),
        ({"observe": ["demanding"]}, {}, "observer 'demanding': needs a moon; wait for one"),
        ({"observe": ["dairy"]}, {}, "unknown observer 'dairy'; did you mean 'diary'?"),
        (
            {"observe": ["diary", "diary"]},
            {},
            "observe[1]: observer 'diary' is taken by the entry at benchmark: observe[0]; list it once",
        ),
        (
            {},
            {"observe": ["unfinished"]},
            "observer 'unfinished': the package 'no_such_package_anywhere' is not installed; "
            "pip install 'basin-harness[unfinished]'",
        ),
        (
            {},
            {"observe": [{"diary": {"fail_in": "check"}}]},
            "observer 'diary': its check fails: SystemExit: it fails in check",
        ),
    ],
)
def test_observer_that_cannot_be_used(
    run: Callable[..., harness.Run], tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    """One line says so before anything is done or written."""
    with pytest.raises(UserError) as raised:
        run(changes, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["start", "observe", "finish", "close"])
def test_observer_that_fails(
    run: Callable[..., harness.Run], tmp_path: Path, capfd: pytest.CaptureFixture[str], method: str
) -> None:
    """The run is done all the same, says once why the observer failed, and closes it."""
    finished = run(observe=[{"diary": {"fail_in": method}}])
    assert finished.status == "done"
    logged = (tmp_path / "run" / "events.jsonl").read_text().count("observer_failed")
    lines = [line for line in capfd.readouterr().err.splitlines() if "observer" in line]
    assert logged + len(lines) == 1
    for line in lines:
        assert line.startswith(f"warning: observer 'diary' failed: SystemExit: it fails in {method} (test_observers.py:")
    assert [name for name, _ in calls].count("close") == 1


class Stuck(Observer):
    """Hangs in its first event until it is released."""

    name = "stuck"

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def observe(self, event: events.Event) -> None:
        self.release.wait()


@pytest.fixture
def stuck(tmp_path: Path) -> Any:
    """An observer that hangs, on its thread."""
    observer = Stuck()
    yield ObserverThread("stuck", observer, ObservedRun("b", "o", tmp_path, {}))
    observer.release.set()


def test_observer_that_hangs(stuck: ObserverThread) -> None:
    """The run passes its events on without waiting, and leaves the observer behind when the time is over."""
    began = time.monotonic()
    for _ in range(1000):
        stuck(events.RunWarning(message="m"))
    stuck.end(None)
    assert time.monotonic() - began < 0.2
    assert stuck.wait(time.monotonic() + 0.05) == "observer 'stuck' does not finish; what it has not written yet is lost"


def test_observer_that_falls_behind(stuck: ObserverThread) -> None:
    """It gets no more events, so that they do not fill the memory."""
    event = events.RunWarning(message="m")
    for _ in range(MAX_BACKLOG):
        stuck(event)
    with contextlib.suppress(PluginError):  # whether the observer has taken the first one yet is a matter of time
        stuck(event)
    with pytest.raises(PluginError, match=f"^it is {MAX_BACKLOG} events behind the run$"):
        stuck(event)
    stuck.end(None)
    assert stuck.wait(time.monotonic()) == ""


def test_interrupted_run(run: Callable[..., harness.Run]) -> None:
    """An observer learns that a run was interrupted, and the next run's continues."""

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.EpochEnded) and event.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(observe=["diary"], observers={"interrupts": interrupt})
    assert said("close")
    calls.clear()
    run(observe=["diary"])
    epochs = [event.epoch for event in said("observe") if isinstance(event, events.EpochEnded)]
    assert epochs[-1] == 2
    assert [results.status for results in said("finish")] == ["done"]
