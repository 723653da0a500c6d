"""Figures of the metrics' values, one file per figure. They read rows and measure nothing."""

from harness_metrics.figures.accuracy_cost import AccuracyCost
from harness_metrics.figures.pairwise_barriers import PairwiseBarriers
from harness_metrics.figures.planes import LossPlaneFigure
from harness_metrics.figures.reliability_diagram import ReliabilityDiagram
from harness_metrics.figures.simplexes import SimplexMapFigure

__all__ = ["AccuracyCost", "LossPlaneFigure", "PairwiseBarriers", "ReliabilityDiagram", "SimplexMapFigure"]
