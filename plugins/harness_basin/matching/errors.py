"""What can go wrong with permutation symmetries."""

from __future__ import annotations

from harness import HarnessError, UserError


class UnknownOperation(UserError):
    """A network does something whose effect on permutations is not known."""


class Mismatch(UserError):
    """Weights that do not belong to the network, or to one another: names or shapes differ."""


class SymmetryViolated(HarnessError):
    """Permuting weights as a symmetry says changes the function after all."""
