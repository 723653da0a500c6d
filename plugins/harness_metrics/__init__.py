"""The metrics that come with the harness: accuracy, connectivity, diversity, calibration and shift.

All metrics compute with NumPy; importing this package imports neither torch nor SciPy.
"""

from __future__ import annotations

from collections.abc import Callable

from harness import Correction, Figure, Metric, hookimpl
from harness_metrics.accuracy import EnsembleAccuracy, MeanMemberAccuracy
from harness_metrics.calibration import BrierScore, ExpectedCalibrationError, NegativeLogLikelihood
from harness_metrics.center import CenterAccuracy
from harness_metrics.confidence import AdaptiveCalibrationError, RiskCoverage
from harness_metrics.connectivity import JointConnectivity, PairwiseConnectivity, WorstConnectivity
from harness_metrics.corrections import NoCorrection, RecomputedStatistics, Repair, Rescale, Reshift
from harness_metrics.derivation_cost import DerivationCost
from harness_metrics.diversity import Disagreement, JensenShannonDivergence, PredictiveVariance
from harness_metrics.figures import AccuracyCost, LossPlaneFigure, PairwiseBarriers, ReliabilityDiagram, SimplexMapFigure
from harness_metrics.loss_plane import LossPlane
from harness_metrics.ood import OODAupr, OODAuroc, OODFpr95
from harness_metrics.shift import ShiftAccuracy, ShiftCalibrationError, ShiftLikelihood, ShiftMemberAccuracy
from harness_metrics.simplex_map import SimplexMap
from harness_metrics.temperature import CalibratedLikelihood, Temperature
from harness_metrics.weight_space import WeightDistance


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Register all metrics that `docs/metrics.md` describes."""
    register(EnsembleAccuracy)
    register(MeanMemberAccuracy)
    register(CenterAccuracy)
    register(JointConnectivity)
    register(WorstConnectivity)
    register(PairwiseConnectivity)
    register(PredictiveVariance)
    register(JensenShannonDivergence)
    register(Disagreement)
    register(NegativeLogLikelihood)
    register(ExpectedCalibrationError)
    register(BrierScore)
    register(LossPlane)
    register(SimplexMap)
    register(WeightDistance)
    register(DerivationCost)
    register(Temperature)
    register(CalibratedLikelihood)
    register(AdaptiveCalibrationError)
    register(RiskCoverage)
    register(ShiftAccuracy)
    register(ShiftMemberAccuracy)
    register(ShiftLikelihood)
    register(ShiftCalibrationError)
    register(OODAuroc)
    register(OODAupr)
    register(OODFpr95)


@hookimpl
def register_figures(register: Callable[[type[Figure]], None]) -> None:
    """Register the figures of these metrics' rows that `docs/figures.md` describes."""
    register(AccuracyCost)
    register(PairwiseBarriers)
    register(SimplexMapFigure)
    register(LossPlaneFigure)
    register(ReliabilityDiagram)


@hookimpl
def register_corrections(register: Callable[[type[Correction]], None]) -> None:
    """Register the corrections that `docs/metrics.md` describes."""
    register(NoCorrection)
    register(RecomputedStatistics)
    register(Repair)
    register(Rescale)
    register(Reshift)
