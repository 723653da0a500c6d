"""A point of a trajectory, and the records of the epochs up to it: what is stored of a training, and continued from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from harness.networks.flat_network import StateDict


@dataclass(frozen=True)
class EpochRecord:
    """The mean training loss (nats) and the training accuracy (percent) of an epoch, measured on the augmented images.

    `seconds` are those of the whole group if siblings train together.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON, with seconds rounded to milliseconds."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass
class Point:
    """A point of a trajectory: everything that the rest of the training depends on. Tensors on the CPU, in plain layout.

    `step` counts from initialization; `optimizer_steps` counts from when the optimizer's memory was empty. `loss_sum` and
    `correct` are those of the epoch in progress. `moments` are parts of an object with the moments of `collected` epochs.
    """

    step: int
    weights: StateDict
    memory: dict[str, StateDict] = field(default_factory=dict)
    optimizer_steps: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    history: tuple[EpochRecord, ...] = ()
    moments: dict[str, StateDict] = field(default_factory=dict)
    collected: int = 0
