"""The metrics that come with the harness: accuracy, connectivity, diversity and calibration of an ensemble.

numpy code throughout; importing this package costs no torch and no scipy.
"""

from __future__ import annotations

from collections.abc import Callable

from harness import Metric, hookimpl
from harness_metrics.accuracy import EnsembleAccuracy, MeanMemberAccuracy
from harness_metrics.calibration import BrierScore, ExpectedCalibrationError, NegativeLogLikelihood
from harness_metrics.connectivity import JointConnectivity, PairwiseConnectivity, WorstConnectivity
from harness_metrics.diversity import Disagreement, JensenShannonDivergence, PredictiveVariance


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Register every metric of `docs/metrics.md`."""
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
