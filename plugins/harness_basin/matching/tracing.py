"""Derives a network's permutation symmetry: runs it once, follows the indices of its parameters, and checks the outcome."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness_basin.matching import contractions, operations, rearrangements, reductions
from harness_basin.matching.errors import UnknownOperation
from harness_basin.matching.indices import Index, at, contexts, factors, fix, fixed, forget, settle
from harness_basin.matching.symmetry import Block, Factor, Group, Symmetry
from harness_basin.matching.verification import verify

RULES = operations.RULES | contractions.RULES | rearrangements.RULES | reductions.RULES


def derive_symmetry(network: nn.Module, example: Tensor, *, tolerance: float = 1e-9) -> Symmetry:
    """Return the permutations of hidden units that leave the network's function as it is.

    `example` is a batch of inputs, on the network's device; the network is run on it in eval mode, and stays as it is. Raise
    `UnknownOperation` for a network that does something whose effect on permutations is not known, and `SymmetryViolated`
    if random permutations of random weights change the function in float64 by more than the tolerance, relative.
    """
    traced = copy.deepcopy(network).eval()
    trace = _Trace(traced)
    found = trace.run(traced, example)
    while (again := trace.run(traced, example)) != found:
        found = again
    verify(network, found, example, tolerance=tolerance)
    return found


class _Trace(TorchDispatchMode):
    """Runs a network operation by operation and keeps the indices of every array it sees.

    What later operations tell of an index holds for earlier ones too: run again until nothing changes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.where: list[str] = []
        self.tensors = _named_tensors(network)
        self.parameters: dict[int, list[Index]] = {}
        for tensor in self.tensors.values():
            self.parameters.setdefault(id(tensor), operations.unknown(tensor))
        self.used: set[int] = set()
        self.seen = {id(tensor): (tensor, self.parameters[id(tensor)]) for tensor in self.tensors.values()}

    def run(self, network: nn.Module, example: Tensor) -> Symmetry:
        """Run the network once; return the symmetry as far as it is known."""
        self.seen[id(example)] = (example, [fixed(size) for size in example.shape])
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_plain_attention())
            stack.enter_context(_named_modules(network, self.where))
            stack.enter_context(self)
            output = network(example)
        for leaf in tree_leaves(output):
            for axis in self.axes(leaf) if isinstance(leaf, Tensor) else []:
                fix(axis)
        used = {name: self.parameters[id(tensor)] for name, tensor in self.tensors.items() if id(tensor) in self.used}
        return _symmetry(used, self.tensors, {name for name, _ in network.named_parameters()})

    def axes(self, tensor: Tensor) -> list[Index]:
        """Return an array's indices; an array not met before (an input, a constant) comes from outside."""
        if id(tensor) not in self.seen:
            self.seen[id(tensor)] = (tensor, operations.outside(tensor))
        return self.seen[id(tensor)][1]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: torch would import its compiler, which takes a second, to keep it away from the method below."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        operation = operations.Operation(func, args, kwargs or {}, self.axes)
        self.used.update(id(tensor) for tensor in operation.tensors())
        result = func(*args, **(kwargs or {}))
        operation.results = tuple(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        indices = operations.apply(operation, RULES)
        if indices is None:
            where = (self.where and self.where[-1]) or "the network"
            raise UnknownOperation(
                f"{where}: the effect of operation '{operation.overload}' on permutations of hidden units is not known; "
                "networks that use it cannot be permuted"
            )
        for tensor, axes in zip(operation.results, indices):
            self.seen[id(tensor)] = (tensor, axes)
        return result


def _named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return what a state dict holds, by name, as the network's own objects."""
    own = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))
    return {name: own[name] for name in network.state_dict() if name in own}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from running whole transformer layers as one fused operation."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _named_modules(network: nn.Module, where: list[str]) -> Iterator[None]:
    """Keep the names of the modules that are being run on a stack."""
    where.clear()
    with ExitStack() as stack:
        for name, module in network.named_modules():
            before = module.register_forward_pre_hook(lambda *_, name=name: where.append(name))
            after = module.register_forward_hook(lambda *_: (where.pop(), None)[1])
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


# From indices to blocks.


def _symmetry(used: Mapping[str, list[Index]], tensors: Mapping[str, Tensor], counted: set[str]) -> Symmetry:
    """Read off the groups: an index that is free to be permuted is one, and its contexts are the groups it is within."""
    groups: dict[int, tuple[int, Group]] = {}
    blocks: list[Block] = []
    for name, axes in used.items():
        settle(axes)
        _break_circles(axes)
        strides = torch.empty(tensors[name].shape, device="meta").stride()
        start = [(k, strides[k], axis) for k, axis in enumerate(axes)]
        for offset, parts in _blocks(start, 0):
            found = [Factor(k, index.size, s, _number(index, f"{name}[{k}]", groups)) for k, s, index in parts]
            if any(factor.group is not None for factor in found):
                blocks.append(Block(name, offset, _merged(found), name in counted))
    moved = {block.parameter: tuple(tensors[block.parameter].shape) for block in blocks}
    return Symmetry(tuple(group for _, group in groups.values()), tuple(blocks), moved)


def _merged(found: Sequence[Factor]) -> tuple[Factor, ...]:
    """Return the factors with neighbors that nothing moves taken as one."""
    merged: list[Factor] = []
    for factor in found:
        outer = merged[-1] if merged else None
        if outer and factor.group is None and outer == replace(factor, size=outer.size, stride=factor.size * factor.stride):
            merged[-1] = replace(factor, size=outer.size * factor.size)
        else:
            merged.append(factor)
    return tuple(merged)


def _break_circles(axes: Sequence[Index]) -> None:
    for index in (f for axis in axes for f in factors(axis)):
        for context in contexts(index):
            if any(c is index for c in contexts(context)):
                forget(index, context)


Part = tuple[int, int, Index]  # axis, stride, index


def _blocks(parts: Sequence[Part], offset: int) -> Iterator[tuple[int, list[Part]]]:
    """Expand products into factors, and sums and families into one block per term; yield (offset, factors)."""
    flat: list[Part] = []
    for axis, stride, index in parts:
        inner = stride
        row: list[Part] = []
        for factor in reversed(factors(index)):
            row.insert(0, (axis, inner, factor))
            inner *= factor.size
        flat += row
    for k, (axis, stride, index) in enumerate(flat):
        if index.form == "sum":
            start = offset
            for term in index.parts:
                yield from _blocks([*flat[:k], (axis, stride, term), *flat[k + 1 :]], start)
                start += term.size * stride
            return
        if position := next((c for c in contexts(index) if c.form == "fixed"), None):
            (p,) = [j for j, part in enumerate(flat) if part[2] is position]
            rest = [part for j, part in enumerate(flat) if j != p]
            for i in range(position.size):
                yield from _blocks([(a, s, at(v, position, i)) for a, s, v in rest], offset + i * flat[p][1])
            return
    yield offset, flat


def _number(index: Index, name: str, groups: dict[int, tuple[int, Group]]) -> int | None:
    """Return the number of an index's group, a new one for an index not met before; None for a fixed index."""
    if index.form == "fixed":
        return None
    if id(index) not in groups:
        outer = sorted(contexts(index), key=lambda c: len(contexts(c)))
        within = tuple(n for c in outer if (n := _number(c, name, groups)) is not None)
        groups[id(index)] = (len(groups), Group(name, index.size, within))
    return groups[id(index)][0]
