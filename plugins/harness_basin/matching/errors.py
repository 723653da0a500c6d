"""Errors of the alignment."""

from __future__ import annotations

from harness import HarnessError, UserError


class UnknownOperation(UserError):
    """A network uses an operation whose effect on permutations is not known."""


class Mismatch(UserError):
    """Weights have names or shapes that differ from the network's."""


class SymmetryViolated(HarnessError):
    """Permuting weights according to a symmetry changes the network's function."""
