"""How the trainings of a population are tied, one coupling per module."""

from harness_basin.couplings.mixture import Mixture
from harness_basin.couplings.pull import Pull
from harness_basin.couplings.shuffle import Shuffle

COUPLINGS = (Mixture, Pull, Shuffle)
"""The couplings that this plugin registers."""
