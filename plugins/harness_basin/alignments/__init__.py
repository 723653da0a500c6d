"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.scales import ScaleAlignment
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (WeightMatching, JointWeightMatching, ScaleAlignment)
"""All alignments, as they are registered."""

__all__ = ["ALIGNMENTS", "JointWeightMatching", "MatchingOptions", "ScaleAlignment", "WeightMatching"]
