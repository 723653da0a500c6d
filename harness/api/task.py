"""A task, its outcome, and the hash that keys are computed with."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.api.specs import Kind, TaskSpec

FORMAT = 2
"""Version of stored objects and of the numbers that the core computes. Part of every key: raise it when they change."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the JSON text of a value with sorted keys and without spaces; raise `ValueError` for NaN and infinities."""
    return _ENCODER.encode(value)


def key_of(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work. Its result is the store's object with the same key; a check has no result.

    `spec` contains everything that a worker needs. `parents` are the keys of the tasks that must be done before. Tasks with
    equal `group` are handed out together, such as siblings: trainings with one setting,
    first and last epoch, schedule and kind of objective.
    `cost` is in epochs of plain training.
    """

    key: str
    spec: TaskSpec
    parents: tuple[str, ...]
    group: str
    cost: float = 0.0

    @property
    def kind(self) -> Kind:
        """The kind of work: check, train, derive, predict or measure."""
        return self.spec.kind


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    `message` says why it was not done. With status `damaged`, the field `damaged` is the key of the parent object that
    cannot be read. `traceback` is that of a plugin's exception. `out_of_memory` is True if the task ran out of memory, alone in
    its worker. `taken_over` is True if the task is done because another run on the store did it meanwhile. `ended` is the time
    at which the task ended, in seconds since 1970; an engine may return outcomes later.
    """

    key: str
    status: Literal["done", "failed", "damaged", "interrupted"]
    message: str = ""
    damaged: str = ""
    traceback: str = ""
    out_of_memory: bool = False
    taken_over: bool = False
    ended: float = field(default_factory=time.time, compare=False)
