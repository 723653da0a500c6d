"""The figures of "How Good is a Single Basin?" (Lion et al., AISTATS 2024), one file per figure."""

from harness_basin.figures.accuracy_connectivity import AccuracyConnectivity
from harness_basin.figures.fork_epochs import ForkEpochs
from harness_basin.figures.pairwise_curves import PairwiseCurves

__all__ = ["AccuracyConnectivity", "ForkEpochs", "PairwiseCurves"]
