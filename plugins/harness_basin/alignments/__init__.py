"""The alignments that `aligned: {by: …}` can name, one module each. Their algorithms are in `harness_basin.matching`."""

from harness_basin.alignments.ot import OptimalTransport
from harness_basin.alignments.sinkhorn import SinkhornRebasin
from harness_basin.alignments.weights import JointWeightMatching, MatchingOptions, WeightMatching

ALIGNMENTS = (
    WeightMatching,
    JointWeightMatching,
    OptimalTransport,
    SinkhornRebasin,
)
"""All alignments, as they are registered."""

__all__ = ["ALIGNMENTS", "JointWeightMatching", "MatchingOptions", "OptimalTransport", "SinkhornRebasin", "WeightMatching"]
