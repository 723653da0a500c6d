"""Symmetries of networks: derivation from runs of the network, and alignment of members' weights by permutations and scales."""

from harness_basin.matching.certification import Refusal
from harness_basin.matching.descent import Matching, match
from harness_basin.matching.errors import Mismatch, SymmetryViolated, UnknownOperation
from harness_basin.matching.joint import JointMatching, match_jointly
from harness_basin.matching.linear_derivation import LinearSymmetry, derive_linear_groups
from harness_basin.matching.linear_groups import (
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
from harness_basin.matching.random_elements import random_elements
from harness_basin.matching.scaled_matching import ScaledMatching, match_scales
from harness_basin.matching.scaling import Scaling, align_scales
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
    "match_jointly",
    "match_scales",
    "permute",
    "random_elements",
    "random_permutations",
    "verify",
]
