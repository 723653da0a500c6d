"""Messages between a run and a worker through files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import files
from harness.api.task import Outcome
from harness.errors import Interrupted, UserError
from harness.execution.mailbox import Heartbeat, LineReader, Mailbox, WorkerMailbox
from harness.execution.stopping import Stopper
from harness.execution.worker_messages import message_json
from harness.telemetry.events import WorkerEnded, WorkerStarted


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    """A mailbox of a run that gives signs of life once."""
    Heartbeat(tmp_path).close()
    return Mailbox(tmp_path / "1")


def test_groups_arrive_in_order(mailbox: Mailbox) -> None:
    """The worker's iterator ends when the run needs no more, after the groups that were sent before."""
    worker = WorkerMailbox(mailbox.folder, Stopper(), 600)
    mailbox.send(["a", "b"])
    mailbox.send(["c"])
    mailbox.finish()
    assert list(worker.groups()) == [["a", "b"], ["c"]]


def test_worker_that_must_stop(mailbox: Mailbox) -> None:
    """It gets no more groups."""
    stopper = Stopper()
    worker = WorkerMailbox(mailbox.folder, stopper, 600)
    stopper.stop()
    mailbox.send(["a"])
    with pytest.raises(Interrupted):
        next(worker.groups())


def test_messages_arrive_in_order(mailbox: Mailbox) -> None:
    """Lines that are no messages are skipped; what was received is not received again."""
    worker = WorkerMailbox(mailbox.folder, Stopper(), 600)
    sent = [WorkerStarted(process=7), Outcome("k", "done"), WorkerEnded(process=7, code=0)]
    worker.write("hello")
    for message in sent:
        worker.write(json.dumps(message_json(message)))
    assert mailbox.receive() == sent
    assert mailbox.receive() == []


def test_line_that_is_being_written(tmp_path: Path) -> None:
    """It is read when it is complete."""
    path = tmp_path / "lines"
    files.write_file(path, b"one\ntw")
    reader = LineReader(path)
    assert reader.read() == [b"one"]
    assert reader.read() == []
    files.append(path, b"o\nthree\n")
    assert reader.read() == [b"two", b"three"]


def test_file_that_is_gone(tmp_path: Path) -> None:
    """It has no new lines."""
    assert LineReader(tmp_path / "none").read() == []


def test_second_worker_of_a_mailbox(mailbox: Mailbox) -> None:
    """It is refused, since the run has given the tasks to others."""
    WorkerMailbox(mailbox.folder, Stopper(), 600).write("line")
    with pytest.raises(UserError, match="another worker has used this mailbox; the run has given its tasks to others"):
        WorkerMailbox(mailbox.folder, Stopper(), 600)


def test_folder_without_a_mailbox(tmp_path: Path) -> None:
    """The message says so."""
    with pytest.raises(UserError, match="no mailbox of a run: No such file or directory"):
        WorkerMailbox(tmp_path, Stopper(), 600)


def test_mailbox_that_cannot_be_written(mailbox: Mailbox) -> None:
    """The run gets one line."""
    (mailbox.folder / "orders").unlink()
    with pytest.raises(UserError, match=r"orders: cannot be written: No such file or directory$"):
        mailbox.send(["a"])


@pytest.mark.slow
def test_worker_whose_run_has_gone(mailbox: Mailbox, tmp_path: Path) -> None:
    """It ends in order, and reports its exit code."""
    command = [sys.executable, "-m", "harness", "worker", "--mailbox", str(mailbox.folder), "--run-timeout", "1"]
    environment = {**os.environ, "HARNESS_STORE": str(tmp_path / "store")}
    assert subprocess.run(command, env=environment, check=False, timeout=300).returncode == 143
    ended = mailbox.receive()[-1]
    assert isinstance(ended, WorkerEnded)
    assert ended.code == 143
