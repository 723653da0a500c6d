"""Check groups of scales and matrices: random elements must not change a network's outputs at random weights, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import StateDict
from harness_basin.matching.linear.linear_groups import Kind, LinearGroup, act
from harness_basin.matching.linear.random_elements import random_elements
from harness_basin.matching.verification import change_of_outputs, random_inputs

_SPREADS: dict[Kind, float] = {"scale": 5.0, "invertible": 1.0, "orthogonal": 1.0}
"""Scales from e⁻⁵ to e⁵ lead every unit across the kinks of functions such as ReLU6."""


@dataclass(frozen=True)
class Refusal:
    """A group that was found but does not keep the function, or cannot be expressed."""

    kind: Kind
    name: str
    reason: str

    def __str__(self) -> str:
        return f"refused: {self.kind} {self.name}: {self.reason}"


def certified(
    network: nn.Module, groups: Sequence[LinearGroup], weights: StateDict, example: Tensor, tolerance: float
) -> tuple[list[LinearGroup], list[Refusal]]:
    """Return the groups that keep the function of the given weights (float64), and refusals of the others.

    Groups that need a normal form are checked at weights in normal form. All groups are checked together; if this fails, in
    halves, down to single ones.
    """
    kept = []
    refused = []
    for in_normal_form in (False, True):
        own = [group for group in groups if group.needs_normal_form == in_normal_form]
        passed, failed = _halves(_Check(network, normal_form(weights, own), example, tolerance), own)
        kept += passed
        refused += failed
    return kept, refused


def normal_form(weights: StateDict, groups: Sequence[LinearGroup]) -> StateDict:
    """Return weights in which the normalizations of the groups have scale 1 and shift 0. The function is another one."""
    state = dict(weights)
    for group in groups:
        for normalization in group.normalizations:
            state[normalization.scale] = torch.ones_like(state[normalization.scale])
            if normalization.shift is not None:
                state[normalization.shift] = torch.zeros_like(state[normalization.shift])
    return state


@dataclass(frozen=True)
class _Check:
    """The network and the weights at which groups are checked."""

    network: nn.Module
    weights: StateDict
    example: Tensor
    tolerance: float

    def violation(self, groups: Sequence[LinearGroup]) -> str:
        """Return why random elements of the groups do not keep the function; empty if they do."""
        elements: list[Tensor] = []
        for number, group in enumerate(groups):
            elements += random_elements([group], number, spread=_SPREADS[group.kind])
        moved = act(groups, tuple(elements), self.weights)
        inputs = random_inputs(self.example, 2, 2)
        difference, rounding = change_of_outputs(self.network, self.weights, moved, inputs, self.tolerance)
        if difference <= rounding:
            return ""
        return f"random elements change the outputs by {difference:.1e}, relative, in float64"


def _halves(check: _Check, groups: list[LinearGroup]) -> tuple[list[LinearGroup], list[Refusal]]:
    if not groups:
        return [], []
    reason = check.violation(groups)
    if not reason:
        return groups, []
    if len(groups) == 1:
        return [], [Refusal(groups[0].kind, groups[0].name, reason)]
    middle = len(groups) // 2
    kept, refused = _halves(check, groups[:middle])
    more_kept, more_refused = _halves(check, groups[middle:])
    return kept + more_kept, refused + more_refused
