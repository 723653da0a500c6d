"""Observers that log runs to TensorBoard, Weights & Biases and trackio. Each needs its extra. A run has those it names."""

from __future__ import annotations

from collections.abc import Callable

from harness import Observer, hookimpl
from harness_loggers.tensorboard import TensorBoard
from harness_loggers.trackio import Trackio
from harness_loggers.wandb import WeightsAndBiases


@hookimpl
def register_observers(register: Callable[[type[Observer]], None]) -> None:
    """Register the loggers."""
    register(TensorBoard)
    register(Trackio)
    register(WeightsAndBiases)
