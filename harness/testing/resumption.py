"""The contract of derivations that save states: one that is killed and continued gives equal weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from harness.api.data import StateDict
from harness.api.derivation import Derivation, DerivationContext, DerivationState


def check_resumption(
    derivation: Derivation, parents: Sequence[StateDict], context: DerivationContext, expected: Sequence[StateDict]
) -> None:
    """Check that a derivation gives the expected weights, to the bit, when it continues from its first or last saved state.

    A derivation that saves no state passes.
    """
    import torch

    from harness.errors import PluginFailed
    from harness.execution.tasks.derivation_states import copied

    name = derivation.full_name
    saved: list[DerivationState] = []

    def save(state: DerivationState) -> None:
        saved.append(copied(state, name))

    try:
        derivation.derive(parents, replace(context, save=save))
    except PluginFailed as error:
        raise AssertionError(str(error)) from None
    for state in [*saved[:1], *saved[1:][-1:]]:
        resumed, _ = derivation.derive(parents, replace(context, resume=functools.partial(_same, state)))
        for one, other in zip(resumed, expected, strict=True):
            for key in other:
                same = torch.equal(one[key], other[key])
                assert same, f"{name}: continued from its state of epoch {state.epoch} it gives other weights: '{key}'"


def _same(state: DerivationState) -> DerivationState:
    return state
