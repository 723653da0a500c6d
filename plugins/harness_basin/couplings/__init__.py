"""How the trainings of a population are tied, one coupling per module."""

from harness_basin.couplings.mixture import Mixture
from harness_basin.couplings.mutual_distillation import MutualDistillation
from harness_basin.couplings.pull import Pull
from harness_basin.couplings.repulsion import Repulsion
from harness_basin.couplings.shuffle import Shuffle

COUPLINGS = (Mixture, MutualDistillation, Pull, Repulsion, Shuffle)
"""The couplings that this plugin registers."""
