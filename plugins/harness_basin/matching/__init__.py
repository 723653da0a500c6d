"""Symmetries of networks: derivation from runs of the network, and alignment of members' weights by permutations and scales."""

from harness_basin.matching.coordinate_descent.descent import Matching, match
from harness_basin.matching.coordinate_descent.joint import JointMatching, match_jointly
from harness_basin.matching.cycle_consistent.frank_wolfe import CycleConsistentMatching, match_cycle_consistently
from harness_basin.matching.errors import Mismatch, SymmetryViolated, UnknownOperation
from harness_basin.matching.linear.certification import Refusal
from harness_basin.matching.linear.linear_derivation import LinearSymmetry, derive_linear_groups
from harness_basin.matching.linear.linear_groups import (
    Elements,
    LinearGroup,
    Normalization,
    Place,
    Reader,
    act,
    compose_elements,
    identity_elements,
    inverse_elements,
)
from harness_basin.matching.linear.random_elements import random_elements
from harness_basin.matching.scales.scaled_matching import ScaledMatching, match_scales
from harness_basin.matching.scales.scaling import Scaling, align_scales
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
    "Elements",
    "Factor",
    "Group",
    "JointMatching",
    "LinearGroup",
    "LinearSymmetry",
    "Matching",
    "Mismatch",
    "Normalization",
    "Permutations",
    "Place",
    "Reader",
    "Refusal",
    "ScaledMatching",
    "Scaling",
    "Symmetry",
    "SymmetryViolated",
    "UnknownOperation",
    "act",
    "align_scales",
    "compose",
    "compose_elements",
    "derive_linear_groups",
    "derive_symmetry",
    "functional_difference",
    "identity",
    "identity_elements",
    "inverse",
    "inverse_elements",
    "match",
    "match_cycle_consistently",
    "match_jointly",
    "match_scales",
    "permute",
    "random_elements",
    "random_permutations",
    "verify",
]
