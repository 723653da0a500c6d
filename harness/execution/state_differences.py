"""Messages about a network whose state dict does not contain everything that its function depends on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.networks.differences import differing_attributes, differing_constants, differing_tensors

_MAX_NAMES = 5


def missing_from_state(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """Return what differs between two networks after the state dict of one was loaded into the other, and how to fix it."""
    names = [*differing_constants(one, other), *differing_attributes(one, other)]
    tensors: Sequence[str] = []
    if not names:
        tensors = differing_tensors(one, other)
    if tensors:
        return f"its state dict cannot be loaded: {listed(tensors)} comes back as another tensor; change tensors in place"
    return (
        f"it depends on {listed(names) or 'something'}, which the state dict does not hold; "
        "keep that in a parameter or a persistent buffer, or make it the same in every build"
    )


def listed(names: Sequence[str]) -> str:
    """Return at most five names for a message, and the number of further ones."""
    quoted = ", ".join(f"'{name}'" for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    if more > 0:
        return f"{quoted} and {more} more"
    return quoted
