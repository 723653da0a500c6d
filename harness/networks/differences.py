"""Compare two networks of one architecture: name the tensors, constants and attributes that differ.

A member is stored as its state dict and rebuilt by `build` and `load`. Everything that is not in a state dict (attributes,
buffers that are not persistent) must be equal in every build, and training must not change it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.networks.flat_network import constant_buffers
from harness.networks.host_copy import to_host

_TORCH_ATTRIBUTES = set(vars(nn.Module())) | {"training"}


def differing_tensors(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the sorted names of tensors that differ between the state dicts, or that only one of them has."""
    first = one.state_dict()
    second = other.state_dict()
    return [name for name in sorted({*first, *second}) if not _equal(first.get(name), second.get(name))]


def differing_constants(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of buffers outside the state dict in which two networks of one architecture differ."""
    others = {named.name: named.tensor for named in constant_buffers(other)}
    names = []
    for named in constant_buffers(one):
        if not _equal(named.tensor, others.get(named.name)):
            names.append(named.name)
    return names


def differing_attributes(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of the plain attributes (numbers, tensors, arrays, containers) in which two networks differ."""
    names = []
    others = dict(other.named_modules())
    for prefix, module in one.named_modules():
        if prefix not in others:
            continue
        other_attributes = vars(others[prefix])
        for attribute, value in vars(module).items():
            if attribute in _TORCH_ATTRIBUTES or attribute not in other_attributes:
                continue
            if not _equal(value, other_attributes[attribute]):
                names.append(f"{prefix}.{attribute}" if prefix else attribute)
    return names


def _equal(one: Any, other: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Compare numbers, strings, tensors, arrays, generators and containers of them; values of other types count as equal.

    `seen` has the ids of the values that contain `one`.
    """
    if isinstance(one, Tensor):
        same_form = isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
        return same_form and torch.equal(to_host(one), to_host(other))
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, bool | int | float | complex | str | bytes | np.generic):
        return type(one) is type(other) and bool(one == other)
    if isinstance(one, torch.Generator):
        return isinstance(other, torch.Generator) and torch.equal(one.get_state(), other.get_state())
    if type(one) is not type(other):
        return one is not None and other is not None
    if id(one) in seen:
        return True
    containers = seen | {id(one)}
    return all(_equal(item, other_item, containers) for item, other_item in _items(one, other))


def _items(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the contents of two values of one type in pairs; for containers, first the pair of their lengths."""
    if isinstance(one, nn.Module):
        yield from _pairs(one.state_dict().values(), other.state_dict().values())
    elif isinstance(one, dict):
        yield from _pairs(one.values(), other.values())
    elif isinstance(one, list | tuple | deque):
        yield from _pairs(one, other)
    elif isinstance(one, set | frozenset):
        yield from _pairs(sorted(map(repr, one)), sorted(map(repr, other)))
    elif isinstance(one, random.Random):
        yield one.getstate(), other.getstate()
    elif isinstance(one, np.random.RandomState):
        yield one.get_state(legacy=False), other.get_state(legacy=False)
    elif isinstance(one, np.random.Generator):
        yield one.bit_generator.state, other.bit_generator.state
    elif not isinstance(one, type | ModuleType) and not callable(one):
        yield getattr(one, "__dict__", {}), getattr(other, "__dict__", {})


def _pairs(items: Iterable[Any], other_items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    first = list(items)
    second = list(other_items)
    yield len(first), len(second)
    yield from zip(first, second, strict=False)
