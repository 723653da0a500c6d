"""The comparison of a replay with the eager step."""

from __future__ import annotations

import pytest
import torch

from harness.training.trace import NotCapturable, Trace, compare

ONES = Trace(torch.ones(4), torch.ones(4), torch.tensor(2.0))


def test_equal_traces_pass() -> None:
    """Nothing is raised, with and without a change of the weights."""
    still = Trace(torch.ones(4), torch.zeros(4), torch.tensor(2.0))
    compare([ONES, still], [ONES, still])


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (
            Trace(torch.zeros(4), torch.ones(4), torch.tensor(2.0)),
            "the gradient is off by 1 of its norm, the loss by 0, the weights moved 1 times as far",
        ),
        (Trace(torch.ones(4), 3 * torch.ones(4), torch.tensor(2.0)), "the weights moved 3 times as far"),
        (Trace(torch.ones(4), torch.ones(4), torch.tensor(3.0)), "the loss by 0.5,"),
        (Trace(torch.full((4,), torch.nan), torch.ones(4), torch.tensor(2.0)), "the gradient is off by nan"),
    ],
    ids=["gradient", "weights", "loss", "nan"],
)
def test_differing_trace_is_refused(trace: Trace, message: str) -> None:
    """The message says by how much each part differs; NaN differs too."""
    with pytest.raises(NotCapturable, match=message):
        trace.check(ONES)
