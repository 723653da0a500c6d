"""`check_architecture` makes the dry pass: a plugin's own test refuses what a run would refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness import Architecture
from harness.testing import check_architecture


class Kept(nn.Module):
    """A classifier that multiplies its logits by a stored tensor: an attribute if `persistent` is None, else a buffer."""

    def __init__(self, kept: Tensor, persistent: bool | None) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        if persistent is None:
            self.kept = kept
        else:
            self.register_buffer("kept", kept, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) * self.kept


def architecture(make: Callable[[], nn.Module]) -> Architecture:
    """Return an architecture that builds its module with a function."""

    class Made(Architecture):
        """A network that a function makes."""

        name = "made"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return make()

    return Made()


@pytest.mark.parametrize("persistent", [None, False])
def test_random_number_outside_the_state_dict_breaks_the_contract(persistent: bool | None) -> None:
    """The error names the attribute or buffer."""
    with pytest.raises(AssertionError, match="it depends on 'kept', which the state dict does not hold"):
        check_architecture(architecture(lambda: Kept(torch.rand(3), persistent)), (1, 4, 4), 3)


def test_random_number_in_the_state_dict_is_accepted() -> None:
    """A persistent buffer is stored with the weights."""
    check_architecture(architecture(lambda: Kept(torch.rand(3), True)), (1, 4, 4), 3)


def test_double_parameter_breaks_the_contract() -> None:
    """The error names the parameter and the dtype that is allowed."""

    def make() -> nn.Module:
        module = Kept(torch.ones(3), None)
        module.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        module.register_forward_hook(lambda module, inputs, logits: (logits * module.scale).float())
        return module

    with pytest.raises(AssertionError, match=r"parameter 'scale' is torch.float64; parameters are torch.float32"):
        check_architecture(architecture(make), (1, 4, 4), 3)
