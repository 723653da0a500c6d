"""How the trainings of a population are tied, one coupling per module."""

from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.repulsion import Repulsion
from harness_basin.populations.couplings.shuffle import Shuffle

COUPLINGS = (Mixture, MutualDistillation, Pull, Repulsion, Shuffle)
"""The couplings that this plugin registers."""
