"""Is a network's state dict all that its function depends on? Checked on the module itself, and by comparing two modules.

A member is stored as its state dict and rebuilt by `build` and `load`. What is not in a state dict (attributes, buffers that
are not persistent) must be the same in every build; what cannot be stored or trained as it is must be refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harness.networks.flat_network import EXTRA_STATE, constant_buffers, persistent_buffers

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

_TORCH_ATTRIBUTES = set(vars(nn.Module())) | {"training"}
_DEEPEST = 4  # containers within containers that are compared


def state_problem(module: nn.Module) -> str:
    """Say what of a module cannot be trained, stored or loaded as it is, by name; nothing if all can.

    Parameters must be dense float32, buffers of a dtype that can be stored; tensors may not share memory; extra state must be a
    tensor; the state dict must hold the parameters and persistent buffers under their names, and nothing else.
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
    """Name two tensors that are one piece of memory under two tensor objects: training would part them."""
    owners: dict[int, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            continue
        other = owners.setdefault(tensor.data_ptr(), name)
        if other != name:
            return f"'{other}' and '{name}' share memory; use one nn.Parameter in both places, or copies"
    return ""


def _names_problem(module: nn.Module) -> str:
    """Compare the state dict's names with those of the module's tensors, shared ones under all their names."""
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


def differing_constants(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of buffers outside the state dict in which two networks of one architecture differ."""
    theirs = {named.name: named.tensor for named in constant_buffers(other)}
    names = []
    for named in constant_buffers(one):
        if not _equal(named.tensor, theirs.get(named.name)):
            names.append(named.name)
    return names


def differing_attributes(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of plain attributes (numbers, tensors, arrays, containers of them) in which two networks differ."""
    names = []
    others = dict(other.named_modules())
    for prefix, module in one.named_modules():
        if prefix not in others:
            continue
        theirs = vars(others[prefix])
        for attribute, value in vars(module).items():
            if attribute in _TORCH_ATTRIBUTES or attribute not in theirs:
                continue
            if not _equal(value, theirs[attribute]):
                names.append(f"{prefix}.{attribute}" if prefix else attribute)
    return names


def _equal(one: Any, other: Any, depth: int = 0) -> bool:
    """Compare values; what is of another kind than numbers, texts, tensors, arrays and containers counts as equal."""
    if isinstance(one, Tensor):
        same_form = isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
        return same_form and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, bool | int | float | complex | str | bytes | np.generic):
        return type(one) is type(other) and bool(one == other)
    if depth == _DEEPEST or type(one) is not type(other):
        return True
    return all(_equal(mine, theirs, depth + 1) for mine, theirs in _items(one, other))


def _items(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the items of two containers side by side; a difference in length as two numbers."""
    if isinstance(one, dict):
        yield from _pairs(one.values(), other.values())
    elif isinstance(one, list | tuple):
        yield from _pairs(one, other)
    elif isinstance(one, set | frozenset):
        yield from _pairs(sorted(map(repr, one)), sorted(map(repr, other)))


def _pairs(ours: Iterable[Any], theirs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    mine, others = list(ours), list(theirs)
    yield len(mine), len(others)
    yield from zip(mine, others, strict=False)
