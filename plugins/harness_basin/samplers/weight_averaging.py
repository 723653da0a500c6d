"""What `swa` and `swag` share: a run at a constant rate whose moments are collected, and derivations from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

import harness
from harness import (
    Cell,
    Derivation,
    DerivationContext,
    Moments,
    MomentWeights,
    Recipe,
    StateDict,
    TaskFailed,
    Weights,
    schedules,
    streams,
)
from harness_basin.normal_numbers import normal

if TYPE_CHECKING:
    from torch import Tensor

_RATE = 0.1
"""Default of the constant rate, relative to the recipe's: 0.01 of a peak of 0.1."""

_LENGTH = 1.5
"""Default length of the run, relative to T: the source's 300 of 200 epochs."""

_SMALLEST_VARIANCE = 1e-30
"""The source's bound below variances, which rounding may make negative."""


class CollectingOptions(harness.Options):
    """The constant rate, and the end of the run."""

    rate: float | None = Field(None, gt=0, description="constant learning rate, from where the cosine is at it; null: a tenth")
    last: int | None = Field(None, ge=1, description="the last epoch, counted from initialization; null: three halves of T")

    def constant_rate(self, recipe: Recipe) -> float:
        """Return the rate of the run, for a recipe."""
        return self.rate or _RATE * recipe.learning_rate

    def last_epoch(self, recipe: Recipe) -> int:
        """Return the epoch at which the run ends."""
        return self.last or math.ceil(_LENGTH * recipe.epochs)

    def collected(self, recipe: Recipe) -> int:
        """Return the number of epochs at whose ends weights are collected."""
        return self.last_epoch(recipe) - recipe.epoch_at(self.constant_rate(recipe))

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` for a rate that is not below the peak, and for a run that ends before it begins."""
        rate = self.constant_rate(recipe)
        if rate >= recipe.learning_rate:
            raise ValueError(f"rate is {rate:g}; below the peak of the schedule, learning_rate = {recipe.learning_rate:g}")
        first = recipe.epoch_at(rate) + 1
        if self.last_epoch(recipe) < first:
            raise ValueError(f"last is {self.last_epoch(recipe)}; at least {first}, the first epoch at the constant rate")

    def checkpoint(self, cell: Cell, columns: int) -> Weights:
        """Return the last checkpoint of the run, with moments of all epochs at the constant rate."""
        rate = self.constant_rate(cell.recipe)
        start = cell.recipe.epoch_at(rate)
        run = cell.trajectory(member=0).at(start)
        moments = Moments(first=start + 1, columns=columns)
        return run.fork(schedule=schedules.Constant(rate=rate), moments=moments).at(self.last_epoch(cell.recipe))


class MeanOfRun(Derivation):
    """The mean of a training's weights, from a checkpoint and its mean; with running statistics of its own."""

    name, version = "mean_of_run", 1

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the mean."""
        checkpoint, mean = parents[:2]
        return [context.recompute_statistics(_with_parameters(context, checkpoint, mean))], {}


class GaussianSamples(Derivation):
    """M samples of the Gaussian that SWAG fits to a training's weights (Maddox et al. 2019, equation 1).

    θ = μ + √s (diag(σ²)^½ z₁ + D z₂ / √(K − 1)), with the mean μ, the variances σ², the K deviations D of the training, and
    standard normal z₁ and z₂. Parents are a checkpoint and all of its moments.
    """

    name, version = "gaussian_samples", 1

    class Options(harness.Options):
        """Number and scale of the samples."""

        members: int = Field(1, ge=1, description="M, the number of samples; methods set it")
        scale: float = Field(0.5, ge=0, description="s, the factor of the covariance")
        low_rank: bool = Field(True, description="with the deviations; false: variances alone, with scale 1 in the source")

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """M."""
        members: int = self.options.members
        return members

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the samples, each with running statistics of its own."""
        checkpoint, mean, square, *deviations = parents
        if not self.options.low_rank:
            deviations = []
        samples = []
        for number in range(self.outputs):
            stream = streams.key("sample", context.stream, number)
            drawn = draw_sample(mean, square, deviations, self.options.scale, stream)
            samples.append(context.recompute_statistics(_with_parameters(context, checkpoint, drawn)))
        return samples, {"columns": len(deviations)}


def draw_sample(
    mean: StateDict, square: StateDict, deviations: Sequence[StateDict], scale: float, stream: int
) -> dict[str, Tensor]:
    """Return a sample in float64, given mean, mean of squares and deviations by tensor. z₂ is the same for all tensors.

    With a single deviation there is no low-rank part, whose divisor √(K − 1) would be 0.
    """
    columns = len(deviations)
    common = normal([columns], streams.key("columns", stream))
    sample = {}
    for name, center in mean.items():
        variance = (square[name] - center.square()).clamp_min(_SMALLEST_VARIANCE)
        noise = variance.sqrt() * normal(center.shape, streams.key("diagonal", stream, name))
        if columns > 1:
            for weight, deviation in zip(common.tolist(), deviations, strict=True):
                noise = noise + weight / math.sqrt(columns - 1) * deviation[name].double()
        sample[name] = center + math.sqrt(scale) * noise
    return sample


def with_moments(checkpoint: Weights) -> tuple[Weights, ...]:
    """Return a checkpoint and its moments, as the derivations above expect them."""
    return checkpoint, *MomentWeights.of(checkpoint)


def _with_parameters(context: DerivationContext, checkpoint: StateDict, values: Mapping[str, Tensor]) -> StateDict:
    """Return a checkpoint with other parameters. Buffers stay, and so do infinite values; tied parameters stay tied.

    Raise `TaskFailed` for a parameter that is not finite where the checkpoint's is.
    """
    import torch

    state = {name: tensor.clone() for name, tensor in checkpoint.items()}
    first_names: dict[int, str] = {}
    for name, parameter in context.network().named_parameters(remove_duplicate=False):
        source = first_names.setdefault(id(parameter), name)
        new = values[source].to(state[name].dtype)
        if not bool(new[state[name].isfinite()].isfinite().all()):
            raise TaskFailed(f"weights around a run: '{name}' is not finite; lower the scale of samples or the rate of the run")
        state[name] = torch.where(state[name].isinf(), state[name], new)
    return state
