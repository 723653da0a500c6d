"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.ste import StraightThroughMatching
from harness_basin.alignments.ste_mm import JointStraightThroughMatching
from harness_basin.alignments.ot import OptimalTransport
from harness_basin.alignments.sinkhorn import SinkhornRebasin
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (
    WeightMatching,
    JointWeightMatching,
    StraightThroughMatching,
    JointStraightThroughMatching,
)
"""All alignments, as they are registered."""

__all__ = [
    "ALIGNMENTS",
    "JointStraightThroughMatching",
    "JointWeightMatching",
    "MatchingOptions",
    "StraightThroughMatching",
    "WeightMatching",
]
    OptimalTransport,
    SinkhornRebasin,
__all__ = ["ALIGNMENTS", "JointWeightMatching", "MatchingOptions", "OptimalTransport", "SinkhornRebasin", "WeightMatching"]
from harness_basin.alignments.scales import ScaleAlignment
ALIGNMENTS = (WeightMatching, JointWeightMatching, ScaleAlignment)
__all__ = ["ALIGNMENTS", "JointWeightMatching", "MatchingOptions", "ScaleAlignment", "WeightMatching"]
from harness_basin.alignments.orthogonal import OrthogonalMatching
ALIGNMENTS = (WeightMatching, JointWeightMatching, OrthogonalMatching)
__all__ = ["ALIGNMENTS", "JointWeightMatching", "MatchingOptions", "OrthogonalMatching", "WeightMatching"]
from harness_basin.alignments.c2m3 import CycleConsistentAlignment
ALIGNMENTS = (WeightMatching, JointWeightMatching, CycleConsistentAlignment)
__all__ = ["ALIGNMENTS", "CycleConsistentAlignment", "JointWeightMatching", "MatchingOptions", "WeightMatching"]
from harness_basin.alignments.activations import ActivationMatching
ALIGNMENTS = (WeightMatching, JointWeightMatching, ActivationMatching)
__all__ = ["ALIGNMENTS", "ActivationMatching", "JointWeightMatching", "MatchingOptions", "WeightMatching"]
