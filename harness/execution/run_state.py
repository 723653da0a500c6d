"""What is known of a run's tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.execution.measured_values import Measured


@dataclass
class RunState:
    """What is known of a run's tasks, by their keys.

    `measured` holds what measurements found, `failures` why tasks failed. `causes` is, for a training that failed because its
    check did, the key of the check, under which the store keeps the traceback. `trained` are the epochs of plain training done
    in this run, `done` is the number of its tasks that were done.
    """

    measured: dict[str, Measured] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    trained: float = 0.0
    done: int = 0
