"""Check that a network can be trained, stored and loaded without changes; name the tensor that cannot."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harness.networks.flat_network import EXTRA_STATE, persistent_buffers

_STORED = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
}
"""The dtypes that safetensors files of every supported version hold."""


def state_problem(module: nn.Module) -> str:
    """Return which tensor of a module cannot be trained, stored or loaded, and why; an empty string if all can.

    Parameters must be dense and float32, buffers dense and of a dtype that can be stored. Tensors must not share memory. Extra
    state must be a tensor. The state dict must have the parameters and persistent buffers under their names, and nothing else.
    """
    parameters = dict(module.named_parameters())
    buffers = {named.name: named.tensor for named in persistent_buffers(module)}
    for name, parameter in parameters.items():
        problem = _parameter_problem(parameter)
        if problem:
            return f"parameter '{name}' {problem}"
    for name, buffer in buffers.items():
        problem = _buffer_problem(buffer)
        if problem:
            return f"buffer '{name}' {problem}"
    if not any(parameter.requires_grad for parameter in parameters.values()):
        return "no parameter is trained: all have requires_grad=False"
    return _sharing_problem({**parameters, **buffers}) or _names_problem(module)


def _parameter_problem(parameter: Tensor) -> str:
    if is_lazy(parameter):
        return "has no shape yet (a lazy module); give the module its sizes"
    if parameter.dtype != torch.float32:
        return f"is {parameter.dtype}; parameters are torch.float32 (a complex one is two real ones and torch.view_as_complex)"
    if getattr(parameter, "_post_accumulate_grad_hooks", None):
        return "has a post-accumulate-grad hook, which is not called here; use register_hook"
    return _layout_problem(parameter)


def _buffer_problem(buffer: Tensor) -> str:
    if is_lazy(buffer):
        return "has no shape yet (a lazy module); give the module its sizes"
    if buffer.dtype not in _STORED:
        return f"is {buffer.dtype}, which cannot be stored; register it with persistent=False if every build makes the same"
    return _layout_problem(buffer)


def _layout_problem(tensor: Tensor) -> str:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "on the meta device" if tensor.is_meta else f"{tensor.layout}"
        return f"is {kind}; tensors are dense and have values"
    return ""


def _sharing_problem(tensors: Mapping[str, Tensor]) -> str:
    """Name two tensors that share memory, which `FlatNetwork` would separate, or one tensor whose elements do."""
    stored: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            continue
        if _overlaps_itself(tensor):
            return f"'{name}' has several elements in one place of memory (an expanded tensor); use .clone()"
        neighbors = stored.setdefault(tensor.untyped_storage().data_ptr(), [])
        for other in neighbors:
            if _overlap(tensor, tensors[other]):
                return f"'{other}' and '{name}' share memory; use one nn.Parameter in both places, or copies"
        neighbors.append(name)
    return ""


def _overlaps_itself(tensor: Tensor) -> bool:
    """Return whether two elements of a tensor share memory: whether a stride is less than the extent of smaller strides."""
    extent = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= extent:
            return True
        extent += stride * (size - 1)
    return False


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of one storage share bytes."""
    if one.element_size() != other.element_size():
        return True
    return bool(torch.isin(_element_offsets(one), _element_offsets(other)).any())


def _element_offsets(tensor: Tensor) -> Tensor:
    """Return the offsets of a tensor's elements in its storage, int64 (elements,)."""
    offsets = torch.tensor(tensor.storage_offset())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        offsets = offsets.unsqueeze(-1) + stride * torch.arange(size)
    return offsets.flatten()


def _names_problem(module: nn.Module) -> str:
    """Compare the names in the state dict with those of the module's tensors; a shared tensor has several."""
    expected = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for attribute, buffer in owner._buffers.items():
            if buffer is not None and attribute not in owner._non_persistent_buffers_set:
                expected.add(f"{prefix}.{attribute}" if prefix else attribute)
    state = module.state_dict()
    for name, value in state.items():
        if name.rpartition(".")[2] == EXTRA_STATE:
            if not isinstance(value, Tensor):
                return f"the extra state '{name}' is a {type(value).__name__}; only tensors can be stored"
            if value.dtype not in _STORED:
                return f"the extra state '{name}' is {value.dtype}, which cannot be stored"
        elif name not in expected:
            return f"the state dict has '{name}', which is neither a parameter nor a buffer"
        elif not isinstance(value, Tensor):
            return f"the state dict's '{name}' is a {type(value).__name__}, not a tensor"
    missing = sorted(expected - state.keys())
    if missing:
        return f"the state dict lacks '{missing[0]}'"
    return ""
