"""Corrections of mixtures: none, recomputed BatchNorm statistics, and REPAIR with its two halves (Jordan et al., ICLR 2023).

The activations of a network at Σ_i λ_i θ_i vary less than the members' ("variance collapse"), which lowers its accuracy.
Importing this package does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

import harness
from harness import Correction, CorrectionContext, Removable, TaskFailed

if TYPE_CHECKING:
    import numpy as np

    from harness_metrics.corrections.repairing import Members


class NoCorrection(Correction):
    """The plain mixture: running statistics are interpolated like the weights."""

    name, version = "none", 1

    def correct(self, context: CorrectionContext, point: np.ndarray, prepared: None) -> Sequence[Removable]:
        """Change nothing."""
        return ()


class RecomputedStatistics(Correction):
    """Running statistics, those of BatchNorm for example, are recomputed on training images."""

    name, version = "batchnorm", 1

    def prepare(self, context: CorrectionContext) -> None:
        """Raise `TaskFailed` if there is nothing to recompute, or a single training image."""
        if not context.running_statistics:
            raise TaskFailed(
                "correction 'batchnorm': the network has no running statistics to recompute; leave the option out, or take "
                "none, repair, rescale or reshift"
            )
        require_images(self.name, context)

    def correct(self, context: CorrectionContext, point: np.ndarray, prepared: None) -> Sequence[Removable]:
        """Recompute the statistics."""
        context.recompute_statistics()
        return ()


class RepairOptions(harness.Options):
    """Where networks with LayerNorm are corrected."""

    before_normalization: bool = Field(
        False,
        description="layers that a normalization without running statistics follows: correct their outputs before it, as in "
        "the definition, and not after it, where the corrected network keeps its architecture",
    )


class Repair(Correction):
    """Each channel of a layer's output gets the λ-weighted mean and standard deviation of the members' (REPAIR).

    Layers are linear maps and convolutions, the classifier excepted. After BatchNorm, recomputed statistics are the correction.
    Source: Jordan et al. 2023, section 4.
    """

    name, version = "repair", 1
    Options = RepairOptions
    corrects_mean: ClassVar[bool] = True
    corrects_deviation: ClassVar[bool] = True

    def prepare(self, context: CorrectionContext) -> Members:
        """Return the layers to correct, and the members' means and deviations there. Raise `TaskFailed` if there are none."""
        from harness_metrics.corrections.repairing import measure_members

        require_images(self.name, context)
        try:
            members = measure_members(context, self.options.before_normalization)
        except TaskFailed as error:
            raise TaskFailed(f"correction '{self.name}': {error}") from None
        if not members.sites and not context.running_statistics:
            raise TaskFailed(
                f"correction '{self.name}': the network has nothing to correct: no linear layer or convolution but the "
                "classifier, and no running statistics; take none"
            )
        return members

    def correct(self, context: CorrectionContext, point: np.ndarray, prepared: Members) -> Sequence[Removable]:
        """Recompute running statistics, and give the other layers the means and deviations of the mixture's goal."""
        from harness_metrics.corrections.repairing import repair

        return repair(context, point, prepared, mean=self.corrects_mean, deviation=self.corrects_deviation)


class Rescale(Repair):
    """As `repair`, but only the standard deviations are corrected: means stay the mixture's."""

    name, version = "rescale", 1
    corrects_mean = False


class Reshift(Repair):
    """As `repair`, but only the means are corrected: standard deviations stay the mixture's."""

    name, version = "reshift", 1
    corrects_deviation = False


def require_images(name: str, context: CorrectionContext) -> None:
    """Raise `TaskFailed` if statistics would be those of a single image."""
    if len(next(iter(context.batches()))) < 2:
        raise TaskFailed(
            f"correction '{name}': a single training image has no statistics over images; at least 2, or the correction none"
        )
