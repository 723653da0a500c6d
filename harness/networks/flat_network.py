"""A network whose weights are one vector: views, state dicts, gradients. Knows nothing of training or evaluation.

`FlatNetwork` copies the parameters and the floating-point buffers of a module into one contiguous vector and makes the
module's own tensors views of it (convolution weights channels-last by default). Interpolation, optimizer steps and checkpoints
are then vector operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from harness.networks.host_copy import to_host

Layout = Literal["channels_last", "contiguous"]
"""The order in memory of images and of convolution weights: (batch, height, width, channels), or channels before height."""

StateDict = dict[str, Tensor]

ALIGNMENT = 16
"""Every tensor starts at a multiple of so many elements of the vector, which are 64 bytes in float32. Kernels with vectorized
loads assume 16 bytes without a check: cuDNN's BatchNorm reads misaligned weights and breaks the CUDA context."""

EXTRA_STATE = "_extra_state"
"""The name of a module's extra state in a state dict (`nn.Module.get_extra_state`)."""


@dataclass(frozen=True)
class Slot:
    """The position of one tensor in the vector. `channels_last`: its elements are stored as (out, height, width, in)."""

    name: str
    offset: int
    shape: torch.Size
    channels_last: bool

    @property
    def end(self) -> int:
        """The position after the tensor's last element."""
        return self.offset + self.shape.numel()

    def view(self, vector: Tensor) -> Tensor:
        """Return the tensor as a view of a vector."""
        flat = vector[self.offset : self.end]
        if not self.channels_last:
            return flat.view(self.shape)
        out, channels, height, width = self.shape
        return flat.view(out, height, width, channels).permute(0, 3, 1, 2)

    def flat(self, tensor: Tensor) -> Tensor:
        """Return a tensor's elements in the vector's order: the inverse of `view`."""
        ordered = tensor.permute(0, 2, 3, 1) if self.channels_last else tensor
        return ordered.reshape(-1)


@dataclass(frozen=True)
class NamedTensor:
    """A parameter or buffer with its full name, the module that owns it, and its name in that module."""

    name: str
    owner: nn.Module
    attribute: str
    tensor: Tensor

    @property
    def current(self) -> Tensor:
        """The buffer that the module has now; not `tensor` if the module has replaced it."""
        current = self.owner._buffers[self.attribute]
        assert current is not None
        return current

    def restore(self, view: Tensor) -> None:
        """Make `tensor` the module's buffer again, and a view of the vector."""
        self.owner._buffers[self.attribute] = self.tensor
        if self.tensor.data_ptr() != view.data_ptr():
            self.tensor.data = view


class FlatNetwork:
    """A module whose parameters and floating-point buffers are views of `vector`, (size,).

    The vector holds the parameters that are trained, then those that are frozen (`requires_grad=False`), then the persistent
    buffers of the parameters' dtype (`buffers`). Each tensor starts at a multiple of `ALIGNMENT` elements; gaps between tensors
    are 0, also in the gradient. With `gradient=True`, `gradient` is a vector (trained,), and the `.grad` of
    every trained parameter is a view of it. `layout` is that of convolution weights.

    Persistent buffers of another dtype (`fixed_buffers`: integers, masks, BatchNorm's batch counter) stay with the module. They
    are part of every state and are not interpolated. Buffers that are not persistent are constants of the architecture; no
    state has them.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device | str = "cpu",
        *,
        gradient: bool = False,
        layout: Layout = "channels_last",
    ) -> None:
        self.module = module.to(device)
        parameters = list(_named_parameters(self.module))
        trained = [named for named in parameters if named.tensor.requires_grad]
        frozen = [named for named in parameters if not named.tensor.requires_grad]
        dtype = parameters[0].tensor.dtype if parameters else torch.float32
        buffers = list(persistent_buffers(self.module))
        self.buffers = [named for named in buffers if named.tensor.dtype == dtype]
        self._fixed = [named for named in buffers if named.tensor.dtype != dtype]
        self._parameters = [*trained, *frozen]
        self._trained = [named.tensor for named in trained]
        self.unreached: tuple[Slot, ...] = ()
        in_vector = [*trained, *frozen, *self.buffers]
        self.slots = tuple(_slots(in_vector, layout))
        self.trained_slots = self.slots[: len(trained)]
        self.trained_size = self.trained_slots[-1].end if trained else 0
        self.vector = torch.zeros(self.slots[-1].end if self.slots else 0, device=device, dtype=dtype)
        self.gradient = torch.zeros(self.trained_size, device=device, dtype=dtype) if gradient else None
        for slot, named in zip(self.slots, in_vector, strict=True):
            slot.view(self.vector).copy_(named.tensor.detach())
            named.tensor.data = slot.view(self.vector)
        if self.gradient is not None:
            for slot, named in zip(self.trained_slots, trained, strict=True):
                named.tensor.grad = slot.view(self.gradient)

    @property
    def trained(self) -> Tensor:
        """The trained parameters' part of the vector, (trained,)."""
        return self.vector[: self.trained_size]

    @property
    def buffer_slots(self) -> tuple[Slot, ...]:
        """The slots of the buffers."""
        return self.slots[len(self.slots) - len(self.buffers) :]

    @property
    def fixed_buffers(self) -> dict[str, Tensor]:
        """The persistent buffers that are not in the vector, by name; the module's own tensors, not copies."""
        return {named.name: named.current for named in self._fixed}

    @property
    def buffers_replaced(self) -> bool:
        """Whether the module has replaced a buffer, or a buffer's memory, by a new one."""
        if any(named.current is not named.tensor for named in (*self.buffers, *self._fixed)):
            return True
        pairs = zip(self.buffers, self.buffer_slots, strict=True)
        return any(self._is_outside(named.tensor, slot) for named, slot in pairs)

    @property
    def replaced_parameter(self) -> str:
        """The name of a parameter that the module has replaced, so that no optimizer changes it; an empty string if none."""
        for named, slot in zip(self._parameters, self.slots, strict=False):
            current = getattr(named.owner, named.attribute, None)
            if not isinstance(current, Tensor) or self._is_outside(current, slot):
                return named.name
        return ""

    def _is_outside(self, tensor: Tensor, slot: Slot) -> bool:
        """Return whether a tensor is not the view of the vector at its slot."""
        return tensor.data_ptr() != slot.view(self.vector).data_ptr()

    def gradient_of(self, loss: Tensor, weights: Tensor | None = None) -> Tensor:
        """Write the gradient of a scalar loss into `gradient`, and return it; or that of Σ weights · loss for any shape.

        It is 0 for parameters on which the loss does not depend; `unreached` then holds their slots. All parts are copied at
        once, whereas `backward` would clear the vector and add to it parameter by parameter. Raise `ValueError` if a trained
        parameter no longer requires a gradient.
        """
        if self.gradient is None:
            raise ValueError("the network was made without a gradient; make it with gradient=True")
        for slot, parameter in zip(self.trained_slots, self._trained, strict=True):
            if not parameter.requires_grad:
                raise ValueError(f"parameter '{slot.name}' changes its requires_grad during training; set it in build")
        parts = torch.autograd.grad(loss, self._trained, weights, allow_unused=True)
        self.unreached = tuple(slot for slot, part in zip(self.trained_slots, parts, strict=True) if part is None)
        flat: list[Tensor] = []
        end = 0
        for slot, part in zip(self.trained_slots, parts, strict=True):
            if slot.offset > end:
                flat.append(self.vector.new_zeros(slot.offset - end))
            flat.append(self._flat_part(slot, part))
            end = slot.end
        return torch.cat(flat, out=self.gradient)

    def _flat_part(self, slot: Slot, part: Tensor | None) -> Tensor:
        if part is None:
            return self.vector.new_zeros(slot.shape.numel())
        return slot.flat(part)

    def unflatten(self, vector: Tensor) -> StateDict:
        """Return a vector, (trained,) or of the whole length, as named tensors on the CPU in contiguous memory."""
        slots = self.slots
        if len(vector) == self.trained_size:
            slots = self.trained_slots
        on_cpu = to_host(vector, copy=True)
        return {slot.name: slot.view(on_cpu).clone(memory_format=torch.contiguous_format) for slot in slots}

    def flatten(self, state: StateDict) -> Tensor:
        """Return the parameters and floating-point buffers of a state as a vector in the order of `vector`, on the CPU."""
        vector = torch.zeros(len(self.vector), dtype=self.vector.dtype)
        _fill(vector, self.slots, state)
        return vector

    def flatten_trained(self, named: StateDict) -> Tensor:
        """Return tensors that are named like the trained parameters (gradients, momenta) as a vector (trained,), on the CPU."""
        vector = torch.zeros(self.trained_size, dtype=self.vector.dtype)
        _fill(vector, self.trained_slots, named)
        return vector

    def load(self, state: StateDict) -> None:
        """Load a state dict. Raise `ValueError` that names the first tensor that is missing or has another shape."""
        self.set_vector(self.flatten(state))
        self.load_fixed(state)

    def set_vector(self, vector: Tensor) -> None:
        """Copy a vector of all parameters and floating-point buffers into `vector`."""
        self.vector.copy_(vector)
        self.restore_buffers()

    def restore_buffers(self) -> None:
        """Make buffers that the module has replaced views of the vector again."""
        for named, slot in zip(self.buffers, self.buffer_slots, strict=True):
            named.restore(slot.view(self.vector))

    def load_fixed(self, state: StateDict) -> None:
        """Load the part of a state that is not in the vector: buffers of other dtypes, and extra state."""
        for named in self._fixed:
            named.current.copy_(_lookup(state, named.name, named.tensor.shape))
        for name, value in state.items():
            path, _, attribute = name.rpartition(".")
            if attribute == EXTRA_STATE:
                self.module.get_submodule(path).set_extra_state(value)

    def state(self) -> StateDict:
        """Return a copy of the state dict on the CPU in contiguous memory, as `module.load_state_dict` takes it."""
        state = {}
        for name, tensor in self.module.state_dict().items():
            if isinstance(tensor, Tensor):
                state[name] = to_host(tensor, copy=True).contiguous()
        return state


def persistent_buffers(module: nn.Module) -> Iterator[NamedTensor]:
    """Yield the buffers that are in the module's state dict, each tensor once."""
    yield from _named_buffers(module, persistent=True)


def constant_buffers(module: nn.Module) -> Iterator[NamedTensor]:
    """Yield the buffers that are not in the module's state dict, each tensor once."""
    yield from _named_buffers(module, persistent=False)


def _named_buffers(module: nn.Module, persistent: bool) -> Iterator[NamedTensor]:
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        for attribute, tensor in owner._buffers.items():
            is_persistent = attribute not in owner._non_persistent_buffers_set
            if tensor is None or is_persistent != persistent or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            yield NamedTensor(_join(prefix, attribute), owner, attribute, tensor)


def _named_parameters(module: nn.Module) -> Iterator[NamedTensor]:
    owners = dict(module.named_modules())
    for name, parameter in module.named_parameters():
        prefix, _, attribute = name.rpartition(".")
        yield NamedTensor(name, owners[prefix], attribute, parameter)


def _join(prefix: str, attribute: str) -> str:
    return f"{prefix}.{attribute}" if prefix else attribute


def _slots(tensors: Sequence[NamedTensor], layout: Layout) -> Iterator[Slot]:
    """Yield the slots of tensors in order."""
    offset = 0
    for named in tensors:
        shape = named.tensor.shape
        channels_last = layout == "channels_last" and isinstance(named.owner, _ConvNd) and len(shape) == 4
        slot = Slot(named.name, offset, shape, channels_last)
        yield slot
        offset = -(-slot.end // ALIGNMENT) * ALIGNMENT


def _fill(vector: Tensor, slots: Iterable[Slot], state: StateDict) -> None:
    for slot in slots:
        slot.view(vector).copy_(_lookup(state, slot.name, slot.shape))


def _lookup(state: StateDict, name: str, shape: torch.Size) -> Tensor:
    if name not in state:
        raise ValueError(f"the state has no tensor '{name}'")
    if state[name].shape != shape:
        raise ValueError(f"'{name}' has shape {tuple(state[name].shape)}; expected {tuple(shape)}")
    return state[name]
