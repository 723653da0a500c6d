"""Whether siblings are trained side by side. Siblings are
trainings with one setting, first and last epoch, schedule and kind of objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.api.task import Task
from harness.errors import TaskFailed
from harness.training.cuda_graph import capture_is_off
from harness.training.loop import train_together
from harness.training.point import Point

TrainTogether = Callable[..., list[Point | TaskFailed]]
"""A function with the signature of `harness.training.loop.train_together`."""


def pays_on_cuda(group: Sequence[Task], device: torch.device) -> bool:
    """Return whether a group is trained side by side: on CUDA, unless CUDA graphs are disabled.

    One small network does not keep a GPU busy. On the CPU, training one by one is faster.
    """
    return device.type == "cuda" and not capture_is_off()


@dataclass(frozen=True)
class SiblingPolicy:
    """How a worker trains groups of siblings. Results do not depend on it.

    `side_by_side` returns whether a group of several trainings is trained at once on a device. `train` trains it.
    """

    side_by_side: Callable[[Sequence[Task], torch.device], bool] = pays_on_cuda
    train: TrainTogether = train_together
