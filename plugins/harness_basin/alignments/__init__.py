"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.c2m3 import CycleConsistentAlignment
from harness_basin.alignments.ste import StraightThroughMatching
from harness_basin.alignments.ste_mm import JointStraightThroughMatching
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (
    WeightMatching,
    JointWeightMatching,
    StraightThroughMatching,
    JointStraightThroughMatching,
    CycleConsistentAlignment,
)
"""All alignments, as they are registered."""

__all__ = [
    "ALIGNMENTS",
    "CycleConsistentAlignment",
    "JointStraightThroughMatching",
    "JointWeightMatching",
    "MatchingOptions",
    "StraightThroughMatching",
    "WeightMatching",
]
