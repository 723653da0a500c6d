"""When siblings are trained side by side: trainings of one setting that differ in their random streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.api.task import Task
from harness.errors import TaskFailed
from harness.training.cuda_graph import capture_is_off
from harness.training.loop import Point, train_together

TrainTogether = Callable[..., list[Point | TaskFailed]]
"""As `harness.training.loop.train_together`."""


def pays_on_cuda(group: Sequence[Task], device: torch.device) -> bool:
    """Return whether a group is trained side by side: on a GPU, whose gaps it fills; on the CPU one by one is faster."""
    return device.type == "cuda" and not capture_is_off()


@dataclass(frozen=True)
class SiblingPolicy:
    """How a worker trains groups of siblings. Results do not depend on it.

    `side_by_side` says whether a group of several trainings is trained at once on a device; `train` does it.
    """

    side_by_side: Callable[[Sequence[Task], torch.device], bool] = pays_on_cuda
    train: TrainTogether = train_together
