"""The lines between a worker process and its engine."""

from __future__ import annotations

import json

import pytest

from harness.api.task import Outcome
from harness.execution.worker_messages import Message, Refusal, message_json, parse_message
from harness.telemetry.events import TaskStarted, WorkerReady

MESSAGES = [
    Outcome("k", "failed", "no", traceback="Traceback"),
    Outcome("k", "damaged", "no", damaged="p"),
    Refusal("code_refused", "another torch"),
    Refusal("store_refused", "no space left"),
    TaskStarted(task="k", kind="train"),
    WorkerReady(process=12),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_read_back(message: Message) -> None:
    """What a worker writes is what its engine reads."""
    line = json.dumps(message_json(message)).encode() + b"\n"
    assert parse_message(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello\n",
        b"[]\n",
        b"\xff\xfe\n",
        b"[" * 100_000,
        b'{"event": "unknown"}\n',
        b'{"event": "outcome", "key": "k", "status": "perfect"}\n',
        b'{"event": "outcome", "key": 1, "status": "done"}\n',
        b'{"event": "store_refused"}\n',
        b'{"event": ["outcome"]}\n',
    ],
    ids=range(10),
)
def test_other_lines_are_no_messages(line: bytes) -> None:
    """What a plugin or a C library prints is ignored."""
    assert parse_message(line) is None
