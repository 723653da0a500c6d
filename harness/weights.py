"""A network's weights as one vector: views, states, convex combinations, BatchNorm statistics. Knows nothing of training.

`FlatNetwork` lays all parameters, then all floating-point buffers, of a module into one contiguous vector of which the module's
own tensors become views (convolutions channels-last). Interpolation, optimisers and checkpoints are then vector operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in the vector. `channels_last`: its elements are stored as (out, height, width, in)."""

    name: str
    offset: int
    shape: torch.Size
    channels_last: bool

    def view(self, vector: Tensor) -> Tensor:
        """Return the tensor as a view of a vector."""
        flat = vector[self.offset : self.offset + self.shape.numel()]
        if not self.channels_last:
            return flat.view(self.shape)
        out, channels, height, width = self.shape
        return flat.view(out, height, width, channels).permute(0, 3, 1, 2)

    def flat(self, tensor: Tensor) -> Tensor:
        """Return a tensor's elements in the order in which the vector holds them: what `view` undoes."""
        return (tensor.permute(0, 2, 3, 1) if self.channels_last else tensor).reshape(-1)


class FlatNetwork:
    """A module whose parameters and floating-point buffers are views of `vector`, float32 (parameters + buffers,).

    `gradient`, if wanted, is a vector (parameters,) of which every parameter's `.grad` is a view. Buffers that are not
    floating-point (BatchNorm's batch counter) stay with the module and travel in states.
    """

    def __init__(self, module: nn.Module, device: torch.device | str = "cpu", *, gradient: bool = False) -> None:
        self.module = module.to(device)
        parameters = list(module.named_parameters())
        buffers = [(name, b) for name, b in module.named_buffers() if b.is_floating_point()]
        self._own = [parameter for _, parameter in parameters]
        self.slots = tuple(_slots([*parameters, *buffers]))
        self.parameter_slots = self.slots[: len(parameters)]
        self.parameters = sum(slot.shape.numel() for slot in self.parameter_slots)
        dtype = parameters[0][1].dtype if parameters else torch.float32
        self.vector = torch.empty(sum(slot.shape.numel() for slot in self.slots), device=device, dtype=dtype)
        self.gradient = torch.zeros(self.parameters, device=device, dtype=dtype) if gradient else None
        for slot, (_, tensor) in zip(self.slots, [*parameters, *buffers], strict=True):
            slot.view(self.vector).copy_(tensor.detach())
            tensor.data = slot.view(self.vector)
        if self.gradient is not None:
            for slot, (_, parameter) in zip(self.parameter_slots, parameters, strict=True):
                parameter.grad = slot.view(self.gradient)

    @property
    def trained(self) -> Tensor:
        """The parameters' part of the vector."""
        return self.vector[: self.parameters]

    def gradient_of(self, loss: Tensor) -> Tensor:
        """Overwrite `gradient` with that of a scalar, and return it.

        It is 0 for a parameter on which the loss does not depend, and for one that is frozen. One copy of all parts: `backward`
        would clear the vector and add to it, parameter by parameter.
        """
        if self.gradient is None:
            raise ValueError("the network was made without a gradient; make it with gradient=True")
        wanted = [parameter for parameter in self._own if parameter.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, materialize_grads=True))
        parts = [next(found) if parameter.requires_grad else torch.zeros_like(parameter) for parameter in self._own]
        return torch.cat([slot.flat(part) for slot, part in zip(self.parameter_slots, parts, strict=True)], out=self.gradient)

    def unflatten(self, vector: Tensor) -> State:
        """Return a vector of the parameters' (or the whole) length as named tensors in plain layout, on the CPU."""
        slots = self.parameter_slots if len(vector) == self.parameters else self.slots
        on_cpu = vector.detach().to("cpu", copy=True)
        return {slot.name: slot.view(on_cpu).clone(memory_format=torch.contiguous_format) for slot in slots}

    def flatten(self, state: State) -> Tensor:
        """Return a state's parameters and buffers as a vector in this network's order, on the CPU."""
        vector = torch.empty(len(self.vector), dtype=self.vector.dtype)
        self._fill(vector, self.slots, state)
        return vector

    def flatten_parameters(self, named: State) -> Tensor:
        """Return tensors named as the parameters (gradients, momenta) as a vector, on the CPU."""
        vector = torch.empty(self.parameters, dtype=self.vector.dtype)
        self._fill(vector, self.parameter_slots, named)
        return vector

    def load(self, state: State) -> None:
        """Take over a state dict. Raise `ValueError` naming the first tensor that is missing or has another shape."""
        self.vector.copy_(self.flatten(state))
        for name, buffer in self.module.named_buffers():
            if not buffer.is_floating_point():
                buffer.copy_(state[name])

    def state(self) -> State:
        """Return a copy of the state dict on the CPU in plain layout: what `module.load_state_dict` takes."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in self.module.state_dict().items()}

    @staticmethod
    def _fill(vector: Tensor, slots: Iterable[Slot], state: State) -> None:
        for slot in slots:
            if slot.name not in state:
                raise ValueError(f"the state has no tensor '{slot.name}'")
            if state[slot.name].shape != slot.shape:
                raise ValueError(f"'{slot.name}' has shape {tuple(state[slot.name].shape)}; {tuple(slot.shape)} is wanted")
            slot.view(vector).copy_(state[slot.name])


def _slots(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Slot]:
    offset = 0
    for name, tensor in tensors:
        yield Slot(name, offset, tensor.shape, tensor.dim() == 4)
        offset += tensor.numel()


def has_batchnorm(module: nn.Module) -> bool:
    """Say whether the network keeps running statistics, which no convex combination of weights gets right."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in module.modules())


@torch.no_grad()
def recompute_batchnorm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every BatchNorm's running statistics by the plain average over the batches (images, (batch, c, h, w)).

    All other modules stay in evaluation mode, so that dropout does not blur the statistics.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for images in batches:
        module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
