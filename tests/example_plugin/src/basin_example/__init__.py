"""A third party's plugin: runs that share their start but forget their momentum, a perceptron, and a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

import harness
from harness import Architecture, Cell, EnsembleBuilder, EvaluatedEnsemble, Metric, MetricValue, Recipe, Weights, hookimpl

if TYPE_CHECKING:
    from torch import nn


class WarmStart(EnsembleBuilder):
    """Members that leave a common start with fresh momentum and a fresh schedule."""

    name, version = "warm_start", 1

    class Options(harness.Options):
        """Options of warm starts."""

        shared_epochs: int = Field(1, ge=0, description="epochs that all members share")

    def check(self, recipe: Recipe, members: int) -> None:
        """Refuse to share everything."""
        last = recipe.epochs - 1
        if self.options.shared_epochs > last:
            raise ValueError(f"{self.options.describe('shared_epochs')}; at most epochs - 1 = {last}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return M runs from one start."""
        start = cell.trajectory(member=0).at(self.options.shared_epochs)
        runs = (start.fork(order=j + 100, restarted=True, fresh_optimizer=True) for j in range(cell.size))
        return [run.at(cell.epochs) for run in runs]


class SoftPerceptron(Architecture):
    """One hidden layer with SiLU."""

    name, version = "soft_perceptron", 1

    class Options(harness.Options):
        """Options of the network."""

        hidden: int = Field(16, ge=1, description="hidden units")

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network."""
        from torch import nn

        channels, height, width = shape
        hidden = self.options.hidden
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.SiLU(), nn.Linear(hidden, classes))


class WeightSpread(Metric):
    """The largest difference between two members' probabilities of one class, over all test examples."""

    name, version = "weight_spread", 1

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the spread, in percentage points."""
        yield MetricValue(self.name, 100 * float(np.ptp(ensemble.probabilities, axis=0).max()), unit="percent")


@hookimpl
def register_ensemble_builders(register: Callable[[type[EnsembleBuilder]], None]) -> None:
    """Register the method."""
    register(WarmStart)


@hookimpl
def register_architectures(register: Callable[[type[Architecture]], None]) -> None:
    """Register the network."""
    register(SoftPerceptron)


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Register the metric."""
    register(WeightSpread)
