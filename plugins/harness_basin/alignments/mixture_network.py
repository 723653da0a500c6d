"""Loss and gradient of a network at mixtures of members' weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import DerivationContext, StateDict, streams

if TYPE_CHECKING:
    from torch import Tensor

SUBSET_SIZE = 5000
"""The number of training images on which permutations are compared; all, if there are fewer."""

_CHUNK = 500  # images per forward pass


class MixtureNetwork:
    """A network whose weights are set before each call. The loss is cross-entropy, in nats.

    `state` gives the tensors that are not mixed, such as counters. Raise what `load_state_dict` raises for another network's.
    """

    def __init__(self, context: DerivationContext, state: StateDict) -> None:
        import torch

        self._context = context
        self._module = context.network()
        self._module.load_state_dict(state)
        self._module.to(context.device)
        self._state = state
        self._tensors = dict(self._module.state_dict(keep_vars=True))
        self._parameters = {name: p for name, p in self._module.named_parameters() if p.is_floating_point()}
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        order = streams.permutation(streams.key("subset", context.stream), len(context.train))
        self._subset = order[:SUBSET_SIZE].sort().values
        self._no_gradient = torch.no_grad
        self.images = 0

    def gradient(self, mixture: StateDict, images: Tensor, labels: Tensor) -> tuple[float, StateDict]:
        """Return the mean loss of a batch at a mixture, and its gradient by parameter, on the CPU.

        Modules with running statistics are in training mode: they normalize by the batch. All others are in evaluation mode, so
        that nothing is random.
        """
        import torch
        from torch.nn import functional as F
        from torch.nn.modules.batchnorm import _NormBase

        self._load(mixture)
        for module in self._module.modules():
            module.training = isinstance(module, _NormBase)
        loss = F.cross_entropy(self._module(images), labels)
        gradients = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
        self.images += len(labels)
        found = {}
        for name, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is not None:
                found[name] = gradient.cpu()
        return float(loss.detach()), found

    def subset_loss(self, mixture: StateDict) -> float:
        """Return the mean loss at a mixture on a fixed subset of the training images, with recomputed running statistics."""
        from torch.nn import functional as F

        state = {**self._state, **mixture}
        self._load(self._context.recompute_statistics(state))
        self._module.eval()
        total = 0.0
        train = self._context.train
        with self._no_gradient():
            for indices in self._subset.split(_CHUNK):
                logits = self._module(self._context.normalize(train.images[indices]))
                labels = train.labels[indices].to(logits.device)
                total += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        self.images += len(self._subset)
        return total / len(self._subset)

    def _load(self, state: StateDict) -> None:
        with self._no_gradient():
            for name, tensor in state.items():
                if tensor.is_floating_point():
                    self._tensors[name].copy_(tensor)
