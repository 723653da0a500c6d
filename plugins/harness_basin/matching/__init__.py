"""Permutation symmetries of networks: derivation from a run of the network, and alignment of members' weights."""

from harness_basin.matching.descent import Matching, match
from harness_basin.matching.errors import Mismatch, SymmetryViolated, UnknownOperation
from harness_basin.matching.frank_wolfe import CycleConsistentMatching, match_cycle_consistently
from harness_basin.matching.joint import JointMatching, match_jointly
from harness_basin.matching.symmetry import (
    Block,
    Factor,
    Group,
    Permutations,
    Symmetry,
    compose,
    identity,
    inverse,
    permute,
    random_permutations,
)
from harness_basin.matching.tracing import derive_symmetry
from harness_basin.matching.verification import functional_difference, verify

__all__ = [
    "Block",
    "CycleConsistentMatching",
    "Factor",
    "Group",
    "JointMatching",
    "Matching",
    "Mismatch",
    "Permutations",
    "Symmetry",
    "SymmetryViolated",
    "UnknownOperation",
    "compose",
    "derive_symmetry",
    "functional_difference",
    "identity",
    "inverse",
    "match",
    "match_cycle_consistently",
    "match_jointly",
    "permute",
    "random_permutations",
    "verify",
]
