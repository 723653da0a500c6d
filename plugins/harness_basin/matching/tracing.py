"""Derive a network's permutation symmetry: run it, propagate the indices of its parameters, and verify the result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness_basin.matching.blocks import symmetry_of_axes
from harness_basin.matching.errors import UnknownOperation
from harness_basin.matching.index_algebra.indices import Index, fix, fixed_axes
from harness_basin.matching.operation_mode import OperationMode
from harness_basin.matching.rules import contractions, operations, rearrangements, reductions, spatial
from harness_basin.matching.symmetry import Symmetry
from harness_basin.matching.verification import tensor_leaves, verify

RULES = operations.RULES | contractions.RULES | rearrangements.RULES | reductions.RULES | spatial.RULES


def derive_symmetry(network: nn.Module, example: Tensor, *, tolerance: float = 1e-9) -> Symmetry:
    """Return the permutations of hidden units that do not change the network's function.

    `example` is a batch of inputs on the network's device. A copy of the network runs on it in eval mode; the network itself
    is not changed. Raise `UnknownOperation` for an operation whose effect on permutations is not known. Raise
    `SymmetryViolated` if random permutations of random weights change the outputs in float64 by more than the relative
    tolerance.
    """
    symmetry = record_run(network, example).symmetry
    verify(network, symmetry, example, tolerance=tolerance)
    return symmetry


@dataclass(frozen=True)
class Recording:
    """A run of a network: its symmetry, not verified, and every operation in order.

    `axes` returns the indices of an array of the run, and `groups` has the number of the group that permutes an index.
    """

    symmetry: Symmetry
    operations: Sequence[operations.Operation]
    axes: Callable[[Tensor], list[Index]]
    groups: Mapping[Index, int]


def record_run(network: nn.Module, example: Tensor) -> Recording:
    """Run a copy of a network in eval mode until its symmetry is known. Raise `UnknownOperation` as `derive_symmetry`."""
    traced = copy.deepcopy(network).eval()
    trace = _Trace(traced)
    previous = trace.run(traced, example)
    symmetry = trace.run(traced, example)
    while symmetry != previous:
        previous = symmetry
        symmetry = trace.run(traced, example)
    return Recording(symmetry, trace.operations, trace.axes, trace.groups)


class _Trace(OperationMode):
    """Run a network operation by operation and store the indices of every array.

    A later operation may constrain the indices of an earlier one. The network therefore runs until nothing changes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module_stack: list[str] = []
        self.tensors = _state_tensors(network)
        self.parameters: dict[int, list[Index]] = {}
        self.used: set[int] = set()
        self.operations: list[operations.Operation] = []
        self.groups: dict[Index, int] = {}
        # The tensor is stored beside its axes so that its id is not reused.
        self.known: dict[int, tuple[Tensor, list[Index]]] = {}
        for tensor in self.tensors.values():
            if id(tensor) not in self.parameters:
                axes = operations.parameter_axes(tensor)
                self.parameters[id(tensor)] = axes
                self.known[id(tensor)] = (tensor, axes)

    def run(self, network: nn.Module, example: Tensor) -> Symmetry:
        """Run the network once; return the symmetry that the constraints so far allow."""
        self.known[id(example)] = (example, fixed_axes(example.shape))
        self.operations.clear()
        self.groups.clear()
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(unfused_attention())
            stack.enter_context(_tracked_modules(network, self.module_stack))
            stack.enter_context(self)
            output = network(example)
        for tensor in tensor_leaves(output):
            for axis in self.axes(tensor):
                fix(axis)
        used = {name: self.parameters[id(tensor)] for name, tensor in self.tensors.items() if id(tensor) in self.used}
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        return symmetry_of_axes(used, shapes, {name for name, _ in network.named_parameters()}, self.groups)

    def axes(self, tensor: Tensor) -> list[Index]:
        """Return an array's indices. An unknown array is a constant, since results of operations are known."""
        if id(tensor) not in self.known:
            self.known[id(tensor)] = (tensor, operations.constant_axes(tensor))
        return self.known[id(tensor)][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        operation = operations.Operation(func, args, keywords, self.axes)
        self.used.update(id(tensor) for tensor in operation.tensors())
        result = func(*args, **keywords)
        operation.results = tuple(tensor_leaves(result))
        operation.module = self._module()
        self.operations.append(operation)
        indices = operations.apply(operation, RULES)
        if indices is None:
            raise UnknownOperation(
                f"{self._module()}: the effect of operation '{operation.overload}' on permutations of hidden units is not "
                "known; networks that use it cannot be permuted"
            )
        for tensor, axes in zip(operation.results, indices):
            self.known[id(tensor)] = (tensor, axes)
        return result

    def _module(self) -> str:
        """Return the name of the module that is running."""
        if self.module_stack and self.module_stack[-1]:
            return self.module_stack[-1]
        return "the network"


def _state_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers in the state dict by name, as the network's own objects."""
    own = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))
    return {name: own[name] for name in network.state_dict() if name in own}


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Prevent torch from running whole transformer layers as one fused operation."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _tracked_modules(network: nn.Module, module_stack: list[str]) -> Iterator[None]:
    """Keep the names of the running modules on a stack, innermost last."""
    module_stack.clear()
    with ExitStack() as stack:
        for name, module in network.named_modules():
            enter = module.register_forward_pre_hook(_push(module_stack, name))
            leave = module.register_forward_hook(_pop(module_stack))
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        yield


def _push(module_stack: list[str], name: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        module_stack.append(name)

    return hook


def _pop(module_stack: list[str]) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        module_stack.pop()

    return hook
