"""Resources that all kinds of tasks use: plugins, store, stopwatch, and the environment of the last setting."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from harness.api.ensemble import EvaluatedEnsemble
from harness.api.specs import MeasureSpec, SettingSpec, WeightsLocation
from harness.api.task import Task, canonical_json
from harness.errors import DamagedObject
from harness.execution.context import RunContext
from harness.execution.device import resolve_device, worker_devices
from harness.execution.environment import TaskEnvironment
from harness.networks.flat_network import StateDict
from harness.store import Store
from harness.telemetry.events import ObjectQuarantined
from harness.telemetry.provenance import provenance

EnsembleId = tuple[tuple[str, ...], tuple[WeightsLocation, ...], int]
"""Keys of predictions, locations of members, and seed: they identify the ensemble of a measurement."""


class SavedState(NamedTuple):
    """A training state in the store: its step, its metadata, and its tensors by part."""

    step: int
    meta: Mapping[str, Any]
    parts: Mapping[str, StateDict]


class TaskResources:
    """Resources that are kept between tasks. Tasks of one setting share the data set, metrics of one ensemble the logits."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.catalogue = context.catalogue
        self.watch = context.watch
        self.store = Store(context.store)
        self.device = torch.device(worker_devices(resolve_device(context.device), 1)[0])
        self._environment: tuple[str, TaskEnvironment] | None = None
        self._ensemble: tuple[EnsembleId, EvaluatedEnsemble] | None = None

    def environment(self, setting: SettingSpec) -> TaskEnvironment:
        """Return the environment of a setting, on the current device. Consecutive tasks of one setting share it."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # Triton and many plugins use the current device
        name = canonical_json(setting.to_json())
        if self._environment is None or self._environment[0] != name:
            self.forget_environment()  # frees its memory before the next one needs it
            with self.watch("data"):
                self._environment = name, TaskEnvironment(self.catalogue, setting, self.context.data, self.device)
        return self._environment[1]

    def forget_environment(self) -> None:
        """Drop the environment: the next task loads its data again."""
        self._environment = None

    def known_ensemble(self, spec: MeasureSpec) -> EvaluatedEnsemble | None:
        """Return the ensemble that was kept, with its cached results, if the measurement needs the same one; else None."""
        if self._ensemble is None or self._ensemble[0] != _ensemble_id(spec):
            return None
        return self._ensemble[1]

    def keep_ensemble(self, spec: MeasureSpec, ensemble: EvaluatedEnsemble) -> None:
        """Keep an ensemble for the next metric."""
        self._ensemble = _ensemble_id(spec), ensemble

    def release(self) -> None:
        """Free the memory of the environment, the ensemble and torch's CUDA cache."""
        self._ensemble = None
        self.forget_environment()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def tensors(self, location: WeightsLocation) -> StateDict:
        """Return the weights at a location; raise `DamagedObject` if they cannot be read."""
        return self.store.tensors(location.object, location.part)

    def saved_state(self, key: str, usable: range) -> SavedState | None:
        """Return the latest intact training state whose step is usable, or None. Damaged states are quarantined."""
        states = self.store.training_states
        for step in states.steps(key):
            if step not in usable:
                continue
            try:
                return SavedState(step, *states.load(key, step))
            except DamagedObject as error:
                where = states.quarantine(key, step)
                message = str(DamagedObject(key, f"step {step}: {error.reason}"))
                self.context.emit(ObjectQuarantined(key=key, path=str(where), message=message))
        return None

    def put(self, task: Task, began: float, parts: Mapping[str, StateDict], facts: Mapping[str, Any]) -> None:
        """Store a task's object: tensors by part, and facts (JSON). `began` is `time.monotonic()` at the task's start."""
        seconds = round(time.monotonic() - began, 3)
        meta = {"kind": task.kind, "spec": task.spec.to_json(), "seconds": seconds, "provenance": provenance()}
        with self.watch("store"):
            self.store.put(task.key, {**meta, **facts}, dict(parts))


def _ensemble_id(spec: MeasureSpec) -> EnsembleId:
    return spec.predictions, spec.members, spec.seed
