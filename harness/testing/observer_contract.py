"""The contract of observers: runs that were interrupted, resumed, failed or had nothing to do, told as a run tells them."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.api.observer import ObservedRun, Observer, RunResults
from harness.errors import UserError
from harness.results.rows import FILE_NAME, Row, write_rows
from harness.telemetry import events
from harness.text import describe_error

_LABELS = ("a data set/of the contract", "architecture ↑", "method(fork_epoch=1,beta=0.5)")
_KEY = "0" * 64


def check_observer(observer: Observer, folder: Path) -> None:
    """Check that an observer follows runs of any kind without an exception, and prints nothing on standard output.

    The runs: one that is interrupted within a training; one that resumes it, repeats an epoch and has cells that failed or are
    NaN; one with nothing to do and no rows; one that ends with an error. `folder` is for the folders of the runs. Every option
    needs a default, since `--observe NAME` gives none, and a description. What the observer wrote is in the folder `run` then,
    two trainings with the epochs 1, 2 and 3, unless it writes elsewhere.
    """
    _check_options(observer)
    try:
        observer.check()
    except UserError as error:
        raise AssertionError(f"{observer.name}: its check says: {error}") from None
    run, empty = folder / "run", folder / "empty"
    for path in (run, empty):
        path.mkdir()
    write_rows(empty / FILE_NAME, [])
    write_rows(run / FILE_NAME, [])
    _follow(observer, run, "is interrupted", _interrupted(), "interrupted")
    write_rows(run / FILE_NAME, [_row(0, 90.0), _row(1, float("nan")), _row(2, None)])
    _follow(observer, run, "resumes", _resumed(), "failed")
    _follow(observer, empty, "has nothing to do", [_started(), events.RunEnded(status="done")], "done")
    _follow(observer, empty, "ends with an error", [_started()], "")


def _check_options(observer: Observer) -> None:
    for name, field in type(observer).Options.model_fields.items():
        assert not field.is_required(), f"{observer.name}: option {name} has no default"
        assert field.description, f"{observer.name}: option {name} has no description"


def _follow(observer: Observer, folder: Path, situation: str, told: Sequence[events.Event], status: str) -> None:
    """Let a new instance observe a run on a thread of its own; a run without status ends with an error."""
    run = ObservedRun("contract", "objective", folder.absolute(), {"name": "contract", "pairs": []})
    follower = type(observer)(observer.options)
    problems: list[str] = []

    def work() -> None:
        try:
            follower.start(run)
            for event in told:
                follower.observe(event)
            if status:
                follower.finish(RunResults(status, run.folder))
        except BaseException as error:  # whatever it raises breaks the contract
            problems.append(describe_error(error))
        try:
            follower.close()
        except BaseException as error:
            problems.append(describe_error(error))

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not problems, f"{observer.name}: a run that {situation}: {problems[0]}"
    text = printed.getvalue()
    assert not text, f"{observer.name}: a run that {situation}: it prints {text[:100]!r} on standard output"


def _started() -> events.Event:
    return events.RunStarted(benchmark="contract", command=("harness", "run"))


def _interrupted() -> list[events.Event]:
    """Two trainings: one ends with epoch 3, and one is interrupted in it. Its saved state is that of epoch 1."""
    first, second = _training(0), _training(1)
    return [
        _started(),
        events.RunPlanned(tasks=2, epochs=6.0, epochs_in_all=6.0, cells=3),
        events.TaskStarted(**first),
        events.TaskStarted(**second),
        events.TrainingStarted(**first, epoch=0.0, until=3, threads=1),
        *(_epoch(first, number) for number in (1, 2)),
        *(_epoch(second, number) for number in (1, 2)),
        _epoch(first, 3),
        events.TaskEnded(**first, status="done", seconds=1.0),
        events.RunEnded(status="interrupted"),
    ]


def _resumed() -> list[events.Event]:
    second = _training(1)
    return [
        _started(),
        events.TaskStarted(**second),
        events.TrainingStarted(**second, epoch=1.0, until=3, threads=1),
        _epoch(second, 2),
        _epoch(second, 3),
        events.TaskEnded(**second, status="done", seconds=1.0),
        events.RunWarning(message="a warning"),
        events.RunEnded(status="failed"),
    ]


def _training(member: int) -> dict[str, Any]:
    dataset, architecture, method = _LABELS
    return {
        "task": f"{member}" * 64,
        "kind": "train",
        "dataset": dataset,
        "architecture": architecture,
        "methods": (method,),
        "seed": 0,
        "member": member,
        "objective": "objective",
        "trajectory": f"{member + 5}" * 64,
        "trained_for": method,
    }


def _epoch(training: dict[str, Any], number: int) -> events.Event:
    return events.EpochEnded(
        **training, epoch=number, until=3, loss=1.0 / number, accuracy=30.0 * number, learning_rate=0.1 / number, seconds=0.5
    )


def _row(seed: int, value: float | None) -> Row:
    dataset, architecture, method = _LABELS
    return Row(
        benchmark="contract",
        dataset=dataset,
        architecture=architecture,
        method=method,
        seed=seed,
        metric="accuracy",
        value=value,
        status="failed" if value is None else "done",
        message="made to fail" if value is None else "",
        members=2,
        cell=_KEY,
        key=_KEY,
    )
