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


def require_finite_loss(alignment: str, loss: float, when: str, learning_rate: float | None = None) -> float:
    """Return a loss. Raise `TaskFailed` if it is infinite or not a number; the message names the alignment and when it was.

    `learning_rate` is that of the steps before, None if there was none.
    """
    if isfinite(loss):
        return loss
    cause = "have the members diverged?"
    if learning_rate is not None:
        cause = f"have the members diverged, or is learning_rate, {learning_rate:g}, too large?"
    raise TaskFailed(f"{alignment}: the loss {when} is {loss}; {cause}")
