"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.activations import ActivationMatching
from harness_basin.alignments.c2m3 import CycleConsistentAlignment
from harness_basin.alignments.orthogonal import OrthogonalMatching
from harness_basin.alignments.ot import OptimalTransport
from harness_basin.alignments.scales import ScaleAlignment
from harness_basin.alignments.sinkhorn import SinkhornRebasin
from harness_basin.alignments.ste import StraightThroughMatching
from harness_basin.alignments.ste_mm import JointStraightThroughMatching
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (
    WeightMatching,
    JointWeightMatching,
    ActivationMatching,
    StraightThroughMatching,
    JointStraightThroughMatching,
    SinkhornRebasin,
    CycleConsistentAlignment,
    OptimalTransport,
    ScaleAlignment,
    OrthogonalMatching,
)
"""All alignments, as they are registered."""

__all__ = [
    "ALIGNMENTS",
    "ActivationMatching",
    "CycleConsistentAlignment",
    "JointStraightThroughMatching",
    "JointWeightMatching",
    "MatchingOptions",
    "OptimalTransport",
    "OrthogonalMatching",
    "ScaleAlignment",
    "SinkhornRebasin",
    "StraightThroughMatching",
    "WeightMatching",
]
