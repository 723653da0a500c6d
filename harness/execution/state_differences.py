"""Messages about what a network depends on and its state dict does not hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.networks.differences import differing_attributes, differing_constants, differing_tensors

_MOST_NAMES = 5


def missing_from_state(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """Return what two networks differ in after one got the other's state dict, and how to fix it."""
    names = [*differing_constants(one, other), *differing_attributes(one, other)]
    tensors = [] if names else differing_tensors(one, other)
    if tensors:
        return f"its state dict cannot be loaded: {listed(tensors)} comes back as another tensor; change tensors in place"
    return (
        f"it depends on {listed(names) or 'something'}, which the state dict does not hold; "
        "keep that in a parameter or a persistent buffer, or make it the same in every build"
    )


def listed(names: Sequence[str]) -> str:
    """Return names for a message, five at most."""
    quoted = ", ".join(f"'{name}'" for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{quoted} and {more} more" if more > 0 else quoted
