"""The metrics that come with the harness: accuracy, connectivity, diversity and calibration of an ensemble.

All metrics compute with NumPy; importing this package imports neither torch nor SciPy.
"""

from __future__ import annotations

from collections.abc import Callable

from harness import Correction, Metric, hookimpl
from harness_metrics.accuracy import EnsembleAccuracy, MeanMemberAccuracy
from harness_metrics.calibration import BrierScore, ExpectedCalibrationError, NegativeLogLikelihood
from harness_metrics.connectivity import JointConnectivity, PairwiseConnectivity, WorstConnectivity
from harness_metrics.corrections import NoCorrection, RecomputedStatistics, Repair, Rescale, Reshift
from harness_metrics.diversity import Disagreement, JensenShannonDivergence, PredictiveVariance


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Register all metrics that `docs/metrics.md` describes."""
    register(EnsembleAccuracy)
    register(MeanMemberAccuracy)
    register(JointConnectivity)
    register(WorstConnectivity)
    register(PairwiseConnectivity)
    register(PredictiveVariance)
    register(JensenShannonDivergence)
    register(Disagreement)
    register(NegativeLogLikelihood)
    register(ExpectedCalibrationError)
    register(BrierScore)


@hookimpl
def register_corrections(register: Callable[[type[Correction]], None]) -> None:
    """Register the corrections that `docs/metrics.md` describes."""
    register(NoCorrection)
    register(RecomputedStatistics)
    register(Repair)
    register(Rescale)
    register(Reshift)
