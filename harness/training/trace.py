"""The check that the replay of a graph does what the eager step does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TOLERANCE = 0.3  # of a norm; fused kernels round bfloat16 differently by up to 0.05, a graph that does something else by 1


class NotCapturable(Exception):
    """A step that cannot be a graph, or a graph whose replay is not the step."""


@dataclass(frozen=True)
class Trace:
    """What a step did: the gradient as the optimizer left it (trained,), the change of the vector (n,), the loss ()."""

    gradient: Tensor
    moved: Tensor
    loss: Tensor

    def check(self, expected: Trace) -> None:
        """Raise `NotCapturable` unless this is the trace of the eager step, to rounding.

        Of the weights only the length of the change is compared: where a gradient is nothing but rounding, Adam takes a step of
        the same length in an arbitrary direction.
        """
        gradient_error = _norm(self.gradient - expected.gradient) / max(_norm(expected.gradient), 1e-30)
        length_ratio = 1.0
        if _norm(expected.moved):
            length_ratio = _norm(self.moved) / max(_norm(expected.moved), 1e-30)
        loss_error = abs(float(self.loss) - float(expected.loss)) / max(abs(float(expected.loss)), 1e-3)
        close = gradient_error < _TOLERANCE and abs(length_ratio - 1) < _TOLERANCE and loss_error < _TOLERANCE
        if not close:
            raise NotCapturable(
                f"its replay is not the step: the gradient is off by {gradient_error:.2g} of its norm, "
                f"the loss by {loss_error:.2g}, the weights moved {length_ratio:.2g} times as far"
            )


def compare(traces: Sequence[Trace], expected: Sequence[Trace]) -> None:
    """Raise `NotCapturable` unless the traces of all siblings are those of the eager step, to rounding."""
    for trace, eager_trace in zip(traces, expected, strict=True):
        trace.check(eager_trace)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
