"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.c2m3 import CycleConsistentAlignment
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (WeightMatching, JointWeightMatching, CycleConsistentAlignment)
"""All alignments, as they are registered."""

__all__ = ["ALIGNMENTS", "CycleConsistentAlignment", "JointWeightMatching", "MatchingOptions", "WeightMatching"]
