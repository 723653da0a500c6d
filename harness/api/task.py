"""A task: one piece of content-addressed work, and how it ended. Values only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

FORMAT = 2
"""Raise when stored objects, or the numbers that the core computes, change their meaning: it is part of every key."""

Kind = Literal["check", "train", "derive", "predict", "measure"]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(spec: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return _ENCODER.encode(spec)


def key_of(spec: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One object of the store that can be made. `spec` is JSON and says all that a worker needs.

    `parents` are the objects it reads; `group` is equal for tasks that gain from being handed out together; `cost` is in
    epochs of plain training.
    """

    key: str
    kind: Kind
    spec: dict[str, Any]
    parents: tuple[str, ...]
    group: str
    cost: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `damaged` names a parent object that turned out to be unreadable."""

    key: str
    status: Literal["done", "failed", "damaged", "interrupted"]
    message: str = ""
    damaged: str = ""
    traceback: str = ""
