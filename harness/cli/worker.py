"""`harness worker`: do tasks whose specs are in a store. Engines start it as a subprocess or on other machines."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from harness.cli.arguments import data_option, json_option, open_catalogue, store_option
from harness.cli.paths import UserPath
from harness.errors import DeviceBroken, Interrupted, StoreError, UserError
from harness.execution.code_version import CodeVersion, OtherCode, current_code_version, require_same_code
from harness.execution.device import forbid_tf32_in_environment, parse_device
from harness.execution.mailbox import WorkerMailbox
from harness.execution.stopping import Stopper
from harness.execution.worker_messages import BrokenDevice, Message, Refusal, message_json
from harness.runs.places import data_folder, store_folder
from harness.telemetry.events import PhasesMeasured, WorkerEnded, WorkerReady, WorkerStarted
from harness.telemetry.stopwatch import Stopwatch
from harness.text import single_line

_GRACE_SECONDS = 60.0  # time to save running trainings after the engine's process has died


@click.command()
@click.option("--task", "tasks", metavar="KEY", multiple=True, help="A task's key; several make a group of siblings.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read keys from standard input, a group on each line, until it ends.")
@click.option(
    "--mailbox", metavar="DIR", type=UserPath(), help="Take groups of tasks from a run, through a folder that it made."
)
@click.option(
    "--run-timeout", default=120.0, show_default=True, help="With --mailbox: seconds without a sign of the run until the end."
)
@store_option
@data_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:INDEX.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="CPU threads of a task.")
@click.option("--parent", type=int, hidden=True, help="The process that listens; when it has ended, save and stop.")
@click.option("--run-code", metavar="JSON", hidden=True, help="The code that the run uses; the worker must run the same.")
@json_option
def worker(
    tasks: tuple[str, ...],
    from_stdin: bool,
    mailbox: Path | None,
    run_timeout: float,
    store: Path | None,
    data: Path | None,
    device: str,
    threads: int,
    parent: int | None,
    run_code: str | None,
    as_json: bool,
) -> None:
    """Do the tasks that `harness run` has written into the store; one line of it reproduces any task.

    With --json, standard output is for events alone: what plugins print goes to standard error.
    """
    if not tasks and not from_stdin and mailbox is None:
        raise UserError("no task given; name one with --task KEY, or send keys with --stdin")
    parse_device(device)
    forbid_tf32_in_environment()
    settings = _WorkerSettings(store_folder(store), data_folder(data), device, threads, run_code)
    with Stopper(quiet=from_stdin or mailbox is not None) as stopper:
        if mailbox is not None:
            code = _serve_mailbox(WorkerMailbox(mailbox, stopper, run_timeout), settings, stopper)
            sys.exit(code)
        if parent is not None:
            threading.Thread(target=_stop_with_parent, args=(parent, stopper), daemon=True).start()
        lines, out = _private_streams() if as_json else (sys.stdin, sys.stdout)
        emit = _emitter(_stream_writer(out), as_json, stopper)
        if from_stdin:
            channel = _Channel(_groups(lines, stopper), emit, served=True, heard=as_json)
        else:
            channel = _Channel([list(tasks)], emit, served=False, heard=False)
        sys.exit(_exit_code(channel, settings, stopper))


@dataclass(frozen=True)
class _Channel:
    """Where groups of keys come from and where messages go.

    `served` groups come from an engine, which counts the outcomes; a `heard` worker tells it why it refuses to work. `close`
    reports the exit code.
    """

    groups: Iterable[list[str]]
    emit: Callable[[Message], None]
    served: bool
    heard: bool
    close: Callable[[int], None] = lambda code: None


def _serve_mailbox(mailbox: WorkerMailbox, settings: _WorkerSettings, stopper: Stopper) -> int:
    """Do what a run orders through a mailbox; return the exit code, which the run is told, too."""

    def write(line: str) -> None:
        try:
            mailbox.write(line)
        except OSError as error:
            if not stopper.stopping():
                click.echo(
                    f"error: {mailbox.folder}: cannot be written: {error.strerror}; this worker saves and ends", err=True
                )
            raise

    emit = _emitter(write, True, stopper)
    emit(WorkerStarted(process=os.getpid()))

    def close(code: int) -> None:
        emit(WorkerEnded(process=os.getpid(), code=code))

    code = 1
    try:
        code = _exit_code(_Channel(mailbox.groups(), emit, served=True, heard=True, close=close), settings, stopper)
        return code
    finally:
        close(code)


def _exit_code(channel: _Channel, settings: _WorkerSettings, stopper: Stopper) -> int:
    """Do groups of tasks; return the exit code."""
    try:
        all_done = _do_groups(channel.groups, settings, channel.emit, stopper.stopping)
        return 0 if all_done or channel.served else 1
    except Interrupted:
        return stopper.exit_code
    except OtherCode as error:
        if not channel.heard:
            raise
        channel.emit(Refusal("code_refused", str(error)))
        return 1
    except StoreError as error:
        if not channel.heard:
            raise
        channel.emit(Refusal("store_refused", str(error)))
        return 2
    except DeviceBroken as error:
        if not channel.heard:
            raise
        _leave_broken_device(error, channel)


def _leave_broken_device(error: DeviceBroken, channel: _Channel) -> NoReturn:
    """Report to the engine that the device cannot be used any more, and exit without the destructors of its objects.

    They call CUDA, and after such an error they may abort the process or hang.
    """
    from harness.execution.device_errors import is_by_code

    channel.emit(BrokenDevice(single_line(str(error)), is_by_code(error)))
    channel.close(1)
    os._exit(1)


@dataclass(frozen=True)
class _WorkerSettings:
    """Folders, device and threads of a worker. `run_code` is the code version of the run, if the engine has sent it."""

    store: Path
    data: Path
    device: str
    threads: int
    run_code: str | None


def _do_groups(
    groups: Iterable[list[str]], settings: _WorkerSettings, emit: Callable[[Message], None], stopping: Callable[[], bool]
) -> bool:
    """Do groups of tasks; return whether all of them succeeded. Raise `OtherCode` if the run uses different code."""
    watch = Stopwatch("starting")
    catalogue = open_catalogue()
    if settings.run_code is not None:
        require_same_code(CodeVersion.from_json(settings.run_code), current_code_version(catalogue.problems))
    from harness.execution.batching import GroupRunner
    from harness.execution.context import RunContext
    from harness.execution.task_files import task_from_json
    from harness.store import Store

    store = Store(settings.store)
    context = RunContext(catalogue, settings.store, settings.data, settings.device, emit, stopping, settings.threads, watch)
    group_runner = GroupRunner(context)
    watch.turn("waiting")
    emit(WorkerReady(process=os.getpid()))
    all_done = True
    try:
        for keys in groups:
            with watch("store"):
                group = [task_from_json(store.read_task(store.resolve(key))) for key in keys]
            for outcome in group_runner.run(group):
                emit(outcome)
                all_done &= outcome.status == "done"
    finally:
        emit(watch.phases())
    return all_done


def _private_streams() -> tuple[IO[str], IO[str]]:
    """Return standard input and output as streams for the protocol.

    Afterwards, file descriptor 0 is empty and 1 is standard error: a plugin cannot read keys or write to the protocol.
    """
    lines, out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(lines, encoding="utf-8"), os.fdopen(out, "w", encoding="utf-8")


def _stream_writer(out: IO[str]) -> Callable[[str], None]:
    """Return a function that writes a line to a stream."""

    def write(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    return write


def _emitter(write: Callable[[str], None], as_json: bool, stopper: Stopper) -> Callable[[Message], None]:
    """Return a function that writes messages as lines, of JSON or of text. If no line can be written, the worker stops."""
    lock = threading.Lock()

    def emit(message: Message) -> None:
        if not as_json and isinstance(message, WorkerReady | PhasesMeasured):
            return
        facts = message_json(message)
        line = json.dumps(facts, default=str) if as_json else _line(facts)
        try:
            with lock:
                write(line)
        except (OSError, ValueError):  # the reader has closed the stream, or the disk of a mailbox is full
            stopper.stop()

    return emit


def _stop_with_parent(parent: int, stopper: Stopper) -> None:
    """Stop the worker when the engine's process has ended; exit after a grace period, since a plugin may hang."""
    if os.getppid() != parent:  # started through another process, whose end means nothing
        return
    while os.getppid() == parent:
        time.sleep(0.5)
    stopper.stop()
    time.sleep(_GRACE_SECONDS)
    os._exit(stopper.exit_code)


def _groups(lines: Iterable[str], stopper: Stopper) -> Iterator[list[str]]:
    """Yield the groups of keys that lines contain; raise `Interrupted` once the worker must stop."""
    for line in lines:
        if stopper.stopping():
            raise Interrupted
        yield line.split()
        if stopper.stopping():
            raise Interrupted


def _line(facts: dict[str, Any]) -> str:
    """Return a message as a line of text: the name of the event, then its fields."""
    words = []
    for name, value in facts.items():
        if name not in ("event", "time") and value not in ("", None, ()):
            words.append(f"{name}={value}")
    return f"{facts['event']}: {' '.join(words)}"
