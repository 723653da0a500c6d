"""Averages of networks in weight space, as derivations: uniform and greedy soups (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

import harness
from harness import Derivation, DerivationContext, Split, StateDict, TaskFailed

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 1000
"""Images per forward pass when a candidate is evaluated."""


class UniformSoup(Derivation):
    """The mean of all parents' weights, with running statistics of its own."""

    name, version = "uniform_soup", 1

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the mean, and the number of networks in it."""
        return [context.recompute_statistics(mean_weights(parents))], {"networks": len(parents)}


class GreedySoup(Derivation):
    """The mean of the parents that raise the accuracy on a held-out split, tried from the most accurate on."""

    name, version = "greedy_soup", 1

    class Options(harness.Options):
        """Where candidates are evaluated."""

        split: str = Field("held_out", description="the split on which candidates are evaluated")

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the soup; its parents in the order in which they were added, and their accuracies, in percent.

        A parent is kept if the accuracy of the mean with it is strictly higher than without it. Parents of equal accuracy are
        tried in their own order. Raise `TaskFailed` for a split without images.
        """
        split = context.split(self.options.split)
        if not len(split):
            raise TaskFailed(f"greedy soup: split '{self.options.split}' has no images; at least one")
        own = [accuracy_on(context, parent, split) for parent in parents]
        order = sorted(range(len(parents)), key=lambda index: -own[index])
        chosen = [order[0]]
        best, accuracy = context.recompute_statistics(parents[order[0]]), own[order[0]]
        for index in order[1:]:
            candidate = context.recompute_statistics(mean_weights([parents[i] for i in (*chosen, index)]))
            found = accuracy_on(context, candidate, split)
            if found > accuracy:
                chosen.append(index)
                best, accuracy = candidate, found
        if len(chosen) == 1:
            best = {name: tensor.clone() for name, tensor in parents[chosen[0]].items()}
        return [best], {"chosen": chosen, "accuracies": own, "accuracy": accuracy, "images": len(split)}


def mean_weights(states: Sequence[StateDict]) -> StateDict:
    """Return the mean of all floating-point tensors, summed in float64; other tensors are those of the first state dict.

    Raise `TaskFailed` for a mean that is not finite where the first network's value is.
    """
    import torch

    mean: StateDict = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            mean[name] = first.clone()
            continue
        total = first.double()
        for state in states[1:]:
            total = total + state[name].double()
        mean[name] = (total / len(states)).to(first.dtype)
        if not bool(torch.isfinite(mean[name][torch.isfinite(first)]).all()):
            raise TaskFailed(f"average of weights: '{name}' is not finite; have members diverged?")
    return mean


def accuracy_on(context: DerivationContext, state: StateDict, split: Split) -> float:
    """Return the accuracy of a network on a split, in percent, computed in float32 without augmentation."""
    import torch

    network = context.network().to(context.device).eval()
    network.load_state_dict(state)
    correct = 0
    with torch.no_grad():
        for first in range(0, len(split), _BATCH):
            images: Tensor = context.normalize(split.images[first : first + _BATCH])
            labels = split.labels[first : first + _BATCH].to(context.device)
            correct += int((network(images).argmax(1) == labels).sum())
    return 100 * correct / len(split)
