"""What all kinds of tasks use: plugins, store, the environment of the last setting, the clock, whom to tell."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch

from harness.api.ensemble import EvaluatedEnsemble
from harness.api.task import Task, canonical_json
from harness.execution.context import RunContext
from harness.execution.device import resolve_device
from harness.execution.environment import TaskEnvironment
from harness.networks.flat_network import StateDict
from harness.store import Store
from harness.telemetry.provenance import provenance


class TaskResources:
    """Kept from task to task, so that tasks of one setting share its data set, and metrics of one ensemble its predictions."""

    def __init__(self, context: RunContext) -> None:
        self.context, self.catalogue, self.watch = context, context.catalogue, context.watch
        self.store = Store(context.store)
        self.device = torch.device(resolve_device(context.device))
        self.ensemble: tuple[str, EvaluatedEnsemble] | None = None
        self._environment: tuple[str, TaskEnvironment] | None = None

    def environment(self, setting: dict[str, Any]) -> TaskEnvironment:
        """Return the environment of a setting: the last one if it is the same."""
        name = canonical_json(setting)
        if self._environment is None or self._environment[0] != name:
            self.forget_environment()  # its memory first
            with self.watch("data"):
                self._environment = name, TaskEnvironment(self.catalogue, setting, self.context.data, self.device)
        return self._environment[1]

    def forget_environment(self) -> None:
        """Let the next task read its data anew."""
        self._environment = None

    def release(self) -> None:
        """Free all memory that is not needed for what comes next."""
        self.ensemble = None
        self.forget_environment()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def put(self, task: Task, began: float, parts: dict[str, StateDict], **facts: Any) -> None:
        """Store a task's object; `began` is `time.monotonic()` at its start."""
        seconds = round(time.monotonic() - began, 3)
        meta = {"kind": task.kind, "spec": task.spec, "seconds": seconds, "provenance": provenance()}
        with self.watch("store"):
            self.store.put(task.key, {**meta, **facts}, parts)

    def emit(self, event: str, task: Task, **facts: Any) -> None:
        """Tell of an event of a task."""
        self.context.emit({"event": event, "task": task.key, "kind": task.kind, "time": time.time(), **facts})
