"""The contract of couplings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import streams
from harness.api.coupling import Coupling, CouplingStep

if TYPE_CHECKING:
    from torch import Tensor

_GAP = slice(40, 48)  # coordinates between two tensors, which are 0 in all networks
_STEPS = 12


def check_coupling(coupling: Coupling, members: int = 3) -> None:
    """Check that a coupling of M networks is a function of their weights and the step, and reads nothing back.

    The same step has the same result, whatever torch's global generator says. Weights stay finite and gaps 0. Mixtures are M
    numbers of at least 0 with sum 1. A penalty changes the gradients only. A joint loss is a scalar with a finite gradient that
    reaches every network, also where predictions are equal or certain. A coupling that simplifies to None changes nothing.
    """
    coupling.check(members)
    name = coupling.full_name
    cost = coupling.epoch_cost(members)
    assert 0 < cost < math.inf, f"{name}: epoch_cost is {cost}; a number above 0 is expected"
    assert not (coupling.mixes and coupling.shares_batch), f"{name}: it has both mixes and shares_batch; one of them at most"
    if coupling.mixes:
        _check_mixtures(coupling, members)
        _check_penalty(coupling, members)
    else:
        _check_after_step(coupling, members)
    if coupling.shares_batch:
        _check_joint_loss(coupling, members)
    _check_reads(coupling, members)


def _step(number: int) -> CouplingStep:
    import torch

    matrices = torch.ones(80)
    matrices[32:48] = 0
    return CouplingStep(number, 0.1, 0.1, streams.key("contract", number), matrices)


def _networks(members: int) -> list[Tensor]:
    import torch

    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(80, generator=generator) for _ in range(members)]
    for vector in vectors:
        vector[_GAP] = 0
    return vectors


def _check_after_step(coupling: Coupling, members: int) -> None:
    import torch

    name = coupling.full_name
    first, again = _networks(members), _networks(members)
    for number in range(1, _STEPS + 1):
        coupling.after_step(first, _step(number))
        torch.rand(1)
        coupling.after_step(again, _step(number))
    for index, (vector, other, before) in enumerate(zip(first, again, _networks(members), strict=True)):
        assert bool(vector.isfinite().all()), f"{name}: the weights of member {index} are not finite"
        assert torch.equal(vector, other), f"{name}: the same steps give other weights"
        assert not vector[_GAP].any(), f"{name}: it changes the gaps between tensors, which must stay 0"
        nothing = coupling.simplified(members) is None
        assert not nothing or torch.equal(vector, before), f"{name}: it simplifies to nothing, but changes weights"


def _check_mixtures(coupling: Coupling, members: int) -> None:
    name = coupling.full_name
    found = [list(coupling.mixture(members, _step(number))) for number in range(1, _STEPS + 1)]
    again = [list(coupling.mixture(members, _step(number))) for number in range(1, _STEPS + 1)]
    assert found == again, f"{name}: the same step gives another mixture"
    for shares in found:
        _check_shares(name, shares, members)


def _check_shares(name: str, shares: Sequence[float], members: int) -> None:
    assert len(shares) == members, f"{name}: mixture gave {len(shares)} numbers for {members} members"
    assert min(shares) >= 0, f"{name}: mixture gave {min(shares)}; numbers of at least 0 are expected"
    assert math.isclose(sum(shares), 1, abs_tol=1e-6), f"{name}: mixture gave numbers with sum {sum(shares)}; 1 is expected"


def _check_penalty(coupling: Coupling, members: int) -> None:
    import torch

    name = coupling.full_name
    weights = torch.stack(_networks(members))
    found = []
    for _ in range(2):
        gradients = torch.zeros_like(weights)
        coupling.add_penalty(gradients, weights, _step(1))
        found.append(gradients)
    assert bool(found[0].isfinite().all()), f"{name}: the gradient of its penalty is not finite"
    assert torch.equal(*found), f"{name}: the same step gives another penalty"
    assert not found[0][:, _GAP].any(), f"{name}: its penalty changes the gaps between tensors, which must stay 0"
    assert torch.equal(weights, torch.stack(_networks(members))), f"{name}: add_penalty changes the weights"


def _predictions(members: int) -> tuple[Tensor, Tensor]:
    """Return logits (M, 6, 4) of a batch and its labels (6,)."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randn(members, 6, 4, generator=generator), torch.arange(6) % 4


def _loss_and_gradient(coupling: Coupling, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the joint loss, its gradient (M, batch, classes), and that of the sum of the networks' own losses."""
    import torch

    leaf = logits.clone().requires_grad_()
    losses = torch.stack([torch.nn.functional.cross_entropy(own, labels) for own in leaf])
    loss = coupling.joint_loss(losses, leaf, labels)
    assert isinstance(loss, torch.Tensor), f"{coupling.full_name}: joint_loss gave {type(loss).__name__}; a tensor is expected"
    assert loss.shape == (), f"{coupling.full_name}: joint_loss gave a tensor {tuple(loss.shape)}; a scalar is expected"
    (plain,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient, plain


def _check_joint_loss(coupling: Coupling, members: int) -> None:
    import torch

    name = coupling.full_name
    logits, labels = _predictions(members)
    first, gradient, plain = _loss_and_gradient(coupling, logits, labels)
    torch.rand(1)
    again, gradient_again, _ = _loss_and_gradient(coupling, logits, labels)
    same = torch.equal(first, again) and torch.equal(gradient, gradient_again)
    assert same, f"{name}: the same predictions give another joint loss"
    for index, own in enumerate(gradient):
        assert bool(own.any()), f"{name}: the gradient of its joint loss does not reach member {index}"
    if coupling.simplified(members) is None:
        assert torch.equal(gradient, plain), f"{name}: it simplifies to nothing, but changes the gradient"
    equal = logits[:1].expand_as(logits)
    for what, extreme in (("equal", equal), ("certain", 1000 * logits), ("equal and certain", 1000 * equal)):
        loss, gradient, _ = _loss_and_gradient(coupling, extreme, labels)
        finite = bool(loss.isfinite()) and bool(gradient.isfinite().all())
        assert finite, f"{name}: its joint loss is not finite where the members' predictions are {what}"


def _check_reads(coupling: Coupling, members: int) -> None:
    """Run the methods on tensors without values: a method that needs one fails."""
    from torch._subclasses import FakeTensorMode
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        networks = [mode.from_tensor(vector) for vector in _networks(members)]
        try:
            for number in range(1, _STEPS + 1):
                _call(coupling, networks, _step(number))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise AssertionError(f"{coupling.full_name}: it reads a value of a tensor: {error}") from None


def _call(coupling: Coupling, networks: Sequence[Tensor], step: CouplingStep) -> None:
    import torch

    if coupling.mixes:
        stacked = torch.stack(list(networks))
        coupling.add_penalty(torch.zeros_like(stacked), stacked, step)
    else:
        coupling.after_step(networks, step)
    if coupling.shares_batch:
        logits = torch.stack([network[:24].view(6, 4) for network in networks])
        coupling.joint_loss(logits.logsumexp(2).mean(1), logits, torch.zeros(6, dtype=torch.int64))
