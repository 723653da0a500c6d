"""Statistics for comparing methods: crossed means, paired differences, Holm's correction, equivalence, numbers of seeds.

Pure functions of numbers; they know nothing of rows and runs. `docs/statistics.md` gives formulas, sources and measured error
rates. Importing this package does not import SciPy.
"""

from harness.statistics.crossed import CrossedMean, MeanSquares, crossed_mean, standard_error
from harness.statistics.multiple import compact_letters, holm
from harness.statistics.paired import Equivalence, PairedDifference, crossed_difference, seed_difference
from harness.statistics.sample_size import seeds_for_equivalence, seeds_needed

__all__ = [
    "CrossedMean",
    "Equivalence",
    "MeanSquares",
    "PairedDifference",
    "compact_letters",
    "crossed_difference",
    "crossed_mean",
    "holm",
    "seed_difference",
    "seeds_for_equivalence",
    "seeds_needed",
    "standard_error",
]
