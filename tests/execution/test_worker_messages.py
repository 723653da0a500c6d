"""The messages from a worker process to its engine, one JSON line each."""

from __future__ import annotations

import json

import pytest

from harness.api.task import Outcome
from harness.execution.worker_messages import BrokenDevice, Message, Refusal, message_json, parse_message
from harness.telemetry.events import TaskStarted, WorkerReady

MESSAGES = [
    Outcome("k", "failed", "no", traceback="Traceback"),
    Outcome("k", "damaged", "no", damaged="p"),
    Refusal("code_refused", "another torch"),
    Refusal("store_refused", "no space left"),
    BrokenDevice("CUDA error: unspecified launch failure", by_code=False),
    TaskStarted(task="k", kind="train"),
    WorkerReady(process=12),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_read_back(message: Message) -> None:
    """The engine parses the line that a worker writes into an equal message."""
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
def test_line_that_is_no_message(line: bytes) -> None:
    """It is ignored, since a plugin or a C library may print anything."""
    assert parse_message(line) is None
