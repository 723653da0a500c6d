"""The states of a derivation that trains: it saves one after every epoch, and continues from the last one."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from torch import Tensor

from harness.api.derivation import DerivationState
from harness.api.scalars import integer
from harness.api.task import Task, canonical_json
from harness.errors import Interrupted, PluginFailed
from harness.execution.tasks.resources import TaskResources
from harness.networks.flat_network import StateDict
from harness.networks.host_copy import to_host
from harness.telemetry.events import DerivationEpochEnded

_PART = "state"


class DerivationStates:
    """Keeps the states of one derivation in the store, like those of a training. `label` names the derivation in messages.

    A state is written if the last one was written more than `save_every` seconds ago, and in any case if the run must stop.
    """

    def __init__(self, task: Task, resources: TaskResources, label: str) -> None:
        self._task = task
        self._label = label
        self._context = resources.context
        self._resources = resources
        self._states = resources.store.training_states
        self._last_save = self._last_epoch_end = time.monotonic()
        self._unwritten: DerivationState | None = None

    def resume(self) -> DerivationState | None:
        """Return the latest state in the store, or None. Damaged ones are quarantined."""
        with self._resources.watch("store"):
            saved = self._resources.saved_state(self._task.key, range(sys.maxsize))
        if saved is None:
            return None
        return DerivationState(saved.step, saved.parts.get(_PART, {}), saved.meta["values"])

    def save(self, state: DerivationState) -> None:
        """Take a copy of the state at the end of an epoch, and report the epoch. Raise `Interrupted` if the run must stop.

        Raise `PluginFailed` for a state that cannot be stored.
        """
        self._unwritten = copied(state, self._label)
        now = time.monotonic()
        seconds = round(now - self._last_epoch_end, 3)
        self._last_epoch_end = now
        event = DerivationEpochEnded(task=self._task.key, kind=self._task.kind, epoch=self._unwritten.epoch, seconds=seconds)
        self._context.emit(event)
        self.require_no_stop()
        if now - self._last_save > self._context.save_every:
            self._write()

    def require_no_stop(self) -> None:
        """Write the last state and raise `Interrupted` if the run must stop."""
        if self._context.stopping():
            self._write()
            raise Interrupted

    def drop(self) -> None:
        """Remove all states, once the derivation's object is stored."""
        with self._resources.watch("store"):
            self._states.drop(self._task.key, sys.maxsize)

    def _write(self) -> None:
        state = self._unwritten
        if state is None:
            return
        meta = {"task": self._task.key, "values": dict(state.values)}
        parts: dict[str, StateDict] = {}
        if state.tensors:
            parts[_PART] = dict(state.tensors)
        with self._resources.watch("store"):
            self._states.save(self._task.key, state.epoch, meta, parts)
        self._unwritten = None
        self._last_save = time.monotonic()


def copied(state: Any, label: str) -> DerivationState:
    """Return a copy of a state on the CPU. Raise `PluginFailed` if it cannot be stored."""
    if not isinstance(state, DerivationState):
        raise PluginFailed(f"{label}: save got a {type(state).__name__}; a DerivationState is expected")
    try:
        epoch = integer(state.epoch, "its epoch")
        values = json.loads(canonical_json(dict(state.values)))
    except (TypeError, ValueError) as error:
        raise PluginFailed(f"{label}: save got a state that cannot be stored: {error}") from None
    if epoch < 0:
        raise PluginFailed(f"{label}: save got epoch {epoch}; it counts completed epochs")
    tensors: StateDict = {}
    for name, tensor in state.tensors.items():
        if not isinstance(tensor, Tensor):
            raise PluginFailed(f"{label}: save got a {type(tensor).__name__} as '{name}'; a tensor is expected")
        tensors[name] = to_host(tensor, copy=True)
    return DerivationState(epoch, tensors, values)
