"""The state of a run: results and failures of its tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.execution.measured_values import Measured


@dataclass
class RunState:
    """Results and failures of a run's tasks, by key.

    `measured` has the results of measurements, `failures` the messages of failed tasks. If a training or derivation failed
    because its check failed, `causes` has the key of the check, under which the store keeps the traceback. `trained` is the
    cost, in epochs of plain training, and `done` the number of the tasks that were done in this run. `epochs_taken_over` and
    `taken_over` are those of the tasks that another run on the store did meanwhile.
    """

    measured: dict[str, Measured] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    trained: float = 0.0
    done: int = 0
    epochs_taken_over: float = 0.0
    taken_over: int = 0
