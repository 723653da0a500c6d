"""A third-party plugin: an ensemble builder with warm starts, a perceptron, a metric, and a figure of the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

import harness
from harness import (
    Architecture,
    Cell,
    EnsembleBuilder,
    EvaluatedEnsemble,
    Figure,
    FigureData,
    Metric,
    MetricValue,
    Plot,
    Recipe,
    Weights,
    drawing,
    hookimpl,
    schedules,
)

if TYPE_CHECKING:
    from torch import nn


class WarmStart(EnsembleBuilder):
    """Members that continue from a common checkpoint with a fresh optimizer and a restarted schedule."""

    name, version = "warm_start", 1

    class Options(harness.Options):
        """Options of warm starts."""

        shared_epochs: int = Field(1, ge=0, description="epochs that all members share")

    def check(self, recipe: Recipe, members: int) -> None:
        """Refuse to share all epochs."""
        last = recipe.epochs - 1
        if self.options.shared_epochs > last:
            raise ValueError(f"{self.options.describe('shared_epochs')}; at most epochs - 1 = {last}")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the ends of M forks of one checkpoint."""
        start = cell.trajectory(member=0).at(self.options.shared_epochs)
        schedule = schedules.WarmupCosine.of(cell.recipe, cell.epochs - start.epoch)
        members = []
        for j in range(cell.size):
            fork = start.fork(order=j + 100, schedule=schedule, fresh_optimizer=True)
            members.append(fork.at(cell.epochs))
        return members


class SoftPerceptron(Architecture):
    """A perceptron with one hidden layer and SiLU."""

    name, version = "soft_perceptron", 1

    class Options(harness.Options):
        """Options of the network."""

        hidden: int = Field(16, ge=1, description="number of hidden units")

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network: (batch, *shape) to logits (batch, num_classes)."""
        from torch import nn

        channels, height, width = shape
        inputs = channels * height * width
        hidden = self.options.hidden
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, num_classes))


class WeightSpread(Metric):
    """The largest difference between two members' probabilities of a class, over all classes and test examples."""

    name, version = "weight_spread", 1

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the spread, in percentage points."""
        spread = np.ptp(ensemble.probabilities, axis=0)  # (examples, classes)
        yield MetricValue(self.name, 100 * float(spread.max()), unit="percent")


class SpreadByMethod(Figure):
    """The mean of `weight_spread` over seeds, one bar per method."""

    name, version = "spread_by_method", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Return one plot, or none if nothing was measured."""
        rows = data.rows[data.rows["metric"] == WeightSpread.name]
        means = rows.groupby("method")["value"].mean().dropna()
        if means.empty:
            return

        def paint(canvas: Any) -> None:
            axes = canvas.subplots()
            axes.barh([drawing.label(method) for method in means.index], means)
            axes.set_xlabel("weight spread (%)")

        yield Plot(
            title="Spread by method",
            caption="Mean over seeds.",
            columns=("method", WeightSpread.name),
            records=tuple(means.items()),
            paint=paint,
            size=(7.6, drawing.height(1.5, len(means))),
        )


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


@hookimpl
def register_figures(register: Callable[[type[Figure]], None]) -> None:
    """Register the metric's figure."""
    register(SpreadByMethod)
