"""What two networks of one architecture differ in, by name: tensors, constants, attributes.

A member is stored as its state dict and rebuilt by `build` and `load`. What is not in a state dict (attributes, buffers that
are not persistent) must be the same in every build, and training may not change it.
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

_TORCH_ATTRIBUTES = set(vars(nn.Module())) | {"training"}


def differing_tensors(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of the tensors in the state dicts that differ, or that one of the two lacks."""
    ours, theirs = one.state_dict(), other.state_dict()
    return [name for name in sorted({*ours, *theirs}) if not _equal(ours.get(name), theirs.get(name))]


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


def _equal(one: Any, other: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Compare values; what is of another kind than numbers, texts, tensors, arrays and what holds them counts as equal.

    `seen` has the ids of the values around `one`.
    """
    if isinstance(one, Tensor):
        same_form = isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
        return same_form and torch.equal(one.cpu(), other.cpu())
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
    inside = seen | {id(one)}
    return all(_equal(mine, theirs, inside) for mine, theirs in _items(one, other))


def _items(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what two values of one type hold, side by side; a difference in length as two numbers."""
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


def _pairs(ours: Iterable[Any], theirs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    mine, others = list(ours), list(theirs)
    yield len(mine), len(others)
    yield from zip(mine, others, strict=False)
