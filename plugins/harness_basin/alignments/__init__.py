"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.orthogonal import OrthogonalMatching
from harness_basin.alignments.scales import ScaleAlignment
from harness_basin.alignments.ste import StraightThroughMatching
from harness_basin.alignments.ste_mm import JointStraightThroughMatching
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (
    WeightMatching,
    JointWeightMatching,
    StraightThroughMatching,
    JointStraightThroughMatching,
    OrthogonalMatching,
    ScaleAlignment,
)
"""All alignments, as they are registered."""

__all__ = [
    "ALIGNMENTS",
    "JointStraightThroughMatching",
    "JointWeightMatching",
    "MatchingOptions",
    "OrthogonalMatching",
    "ScaleAlignment",
    "StraightThroughMatching",
    "WeightMatching",
]
