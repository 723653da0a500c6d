"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.activations import ActivationMatching
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (WeightMatching, JointWeightMatching, ActivationMatching)
"""All alignments, as they are registered."""

__all__ = ["ALIGNMENTS", "ActivationMatching", "JointWeightMatching", "MatchingOptions", "WeightMatching"]
