"""Errors of the alignment."""

from __future__ import annotations

from math import isfinite

from harness import HarnessError, TaskFailed, UserError


class UnknownOperation(UserError):
    """A network uses an operation whose effect on permutations is not known."""


class Mismatch(UserError):
    """Weights have names or shapes that differ from the network's."""


class SymmetryViolated(HarnessError):
    """Permuting weights according to a symmetry changes the network's function."""


def require_finite_loss(alignment: str, loss: float, when: str, learning_rate: float) -> float:
    """Return a loss. Raise `TaskFailed` if it is infinite or not a number; the message names the alignment and when it was."""
    if not isfinite(loss):
        raise TaskFailed(
            f"{alignment}: the loss {when} is {loss}; have the members diverged, or is learning_rate, {learning_rate:g}, too "
            "large?"
        )
    return loss
