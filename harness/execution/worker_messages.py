"""Messages of a `harness worker --json` process to its engine: JSON lines on the worker's standard output.

A message is an event, the outcome of a task, or a refusal or a broken device, after which the worker exits.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.api.task import Outcome
from harness.telemetry.events import Event, event_from_json


@dataclass(frozen=True)
class Refusal:
    """A worker exits because its code differs from the run's (`code_refused`) or the store fails (`store_refused`)."""

    event: Literal["code_refused", "store_refused"]
    message: str


@dataclass(frozen=True)
class BrokenDevice:
    """A worker exits because its process can no longer use its device. The tasks that it had begun are not done.

    `by_code` is True if the error says that the code is wrong, not the device (a failed assertion in a kernel).
    """

    message: str
    by_code: bool
    event: Literal["device_broken"] = "device_broken"


Message = Event | Outcome | Refusal | BrokenDevice

_OUTCOME = TypeAdapter(Outcome)
_REFUSAL = TypeAdapter(Refusal)
_BROKEN_DEVICE = TypeAdapter(BrokenDevice)


def message_json(message: Message) -> dict[str, Any]:
    """Return a message as JSON."""
    if isinstance(message, Event):
        return message.to_json()
    if isinstance(message, Outcome):
        return {"event": "outcome", **asdict(message)}
    return asdict(message)


def parse_message(line: bytes) -> Message | None:
    """Return the message in a line; None if the line contains none, such as a line that a plugin printed."""
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            return None
        if value.get("event") == "outcome":
            return _OUTCOME.validate_python({name: value[name] for name in value if name != "event"})
        if value.get("event") in ("code_refused", "store_refused"):
            return _REFUSAL.validate_python(value)
        if value.get("event") == "device_broken":
            return _BROKEN_DEVICE.validate_python(value)
        return event_from_json(value)
    except (ValueError, RecursionError, ValidationError):
        return None
