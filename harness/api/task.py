"""A task: one piece of content-addressed work, and how it ended. Values only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from harness.api.specs import Kind, TaskSpec

FORMAT = 2
"""Raise when stored objects, or the numbers that the core computes, change their meaning: it is part of every key."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return _ENCODER.encode(value)


def key_of(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One object of the store that can be made.

    `spec` says all that a worker needs. `parents` are the keys of the objects it reads. `group` is equal for tasks that should
    be handed out together. `cost` is in epochs of plain training.
    """

    key: str
    spec: TaskSpec
    parents: tuple[str, ...]
    group: str
    cost: float = 0.0

    @property
    def kind(self) -> Kind:
        """What is done: check, train, derive, predict or measure."""
        return self.spec.kind


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `damaged` is the key of a parent object that turned out to be unreadable."""

    key: str
    status: Literal["done", "failed", "damaged", "interrupted"]
    message: str = ""
    damaged: str = ""
    traceback: str = ""
