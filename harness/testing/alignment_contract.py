"""The contract of alignments as a function that raises `AssertionError` if it is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness import streams
from harness.api.alignment import Alignment
from harness.api.data import StateDict
from harness.api.derivation import DerivationContext
from harness.testing.contracts import check_derivation

if TYPE_CHECKING:
    from torch import Tensor


def check_alignment(
    alignment: Alignment,
    context: DerivationContext,
    planted: Callable[[StateDict, int], StateDict],
    *,
    exact: bool = True,
) -> None:
    """Check that an alignment recovers planted elements of its group, keeps every function, and does not move the first member.

    `planted(state, seed)` returns a state dict moved by a random element of the group that the alignment claims. `exact`: the
    group moves values without changing them, as permutations do; otherwise states are compared to 1e-5. The contract of a
    derivation is checked, too.
    """
    import torch

    name = alignment.full_name
    state = context.network().state_dict()
    with streams.seeded(streams.key("check_alignment")):
        other, third = _elsewhere(context), _elsewhere(context)
    for number, aligned in enumerate(_aligned(alignment, [state, planted(state, 1), planted(state, 2)], context)):
        for key, tensor in state.items():
            close = torch.equal(aligned[key], tensor) if exact else torch.allclose(aligned[key], tensor, rtol=1e-5, atol=1e-5)
            assert close, f"{name}: it does not recover a planted element: '{key}' of member {number} differs"
    parents = [state, other, third]
    members = _aligned(alignment, parents, context)
    for key, tensor in state.items():
        assert torch.equal(members[0][key], tensor), f"{name}: it moves the first member: '{key}' differs"
    images = context.normalize(context.test.images[:16]).double()
    for number, (before, after) in enumerate(zip(parents, members, strict=True)):
        difference = _output_difference(context, before, after, images)
        tolerance = 1e-9 if exact else 1e-5
        assert difference <= tolerance, f"{name}: it changes the function of member {number}: {difference:.1e}, relative"


def _elsewhere(context: DerivationContext) -> StateDict:
    """Return other weights of the context's network, at random. Buffers, such as variances, only grow; integers stay."""
    import torch

    network = context.network()
    buffers = {name for name, _ in network.named_buffers()}
    moved = {}
    for name, tensor in network.state_dict().items():
        moved[name] = tensor.clone()
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor)
            moved[name] += 0.5 * (noise.abs() if name in buffers else noise)
    return moved


def _aligned(alignment: Alignment, members: Sequence[StateDict], context: DerivationContext) -> list[StateDict]:
    """Return aligned members, as the method `aligned` would; check the contract of a derivation."""
    if alignment.joint:
        return [dict(state) for state in check_derivation(alignment.for_members(len(members)), members, context)]
    found = [members[0]]
    for other in members[1:]:
        found += check_derivation(alignment, [members[0], other], context)
    return found


def _output_difference(context: DerivationContext, before: StateDict, after: StateDict, images: Tensor) -> float:
    """Return the largest difference of two networks' outputs in float64, relative to the largest output."""
    import torch

    network = context.network().double().eval()
    outputs = []
    for state in (before, after):
        network.load_state_dict(state)
        with torch.no_grad():
            outputs.append(network(images))
    return float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
