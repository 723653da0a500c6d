"""Find a network's linear maps in the order in which it computes them, and which axes of their weights they sum over.

A linear map reads the units along the axes that it sums over, and writes the units along the others. The network runs once;
every matrix product and convolution whose operand is a parameter is recorded. Views of a parameter share its storage, so the
strides of the operand tell which elements of the parameter an axis steps through.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness_basin.matching.operation_mode import OperationMode
from harness_basin.matching.rules.operations import Operation
from harness_basin.matching.symmetry import Block, Factor
from harness_basin.matching.verification import tensor_leaves

Role = Literal["read", "written", "shared"]


class Steps(NamedTuple):
    """An axis of an operand: `size` steps of `stride` elements of the parameter."""

    size: int
    stride: int


@dataclass(frozen=True)
class LinearMap:
    """One use of a parameter, or of a part of it from `start` to `stop`, as the weight of a linear map.

    `summed` are the axes that are summed over, and `batched` those of several independent maps side by side.
    """

    parameter: str
    start: int
    stop: int
    summed: tuple[Steps, ...]
    batched: tuple[Steps, ...]

    def uses(self, block: Block) -> bool:
        """Return whether a block belongs to the part of the parameter that is used."""
        return block.parameter == self.parameter and self.start <= block.offset < self.stop

    def role(self, factor: Factor) -> Role:
        """Return what the map does with the units along a factor of a block that it uses."""
        if _step_through(self.summed, factor):
            return "read"
        if _step_through(self.batched, factor):
            return "shared"
        return "written"


def _step_through(axes: Sequence[Steps], factor: Factor) -> bool:
    return any(axis.stride <= factor.stride < axis.size * axis.stride for axis in axes)


def linear_maps(network: nn.Module, example: Tensor) -> tuple[LinearMap, ...]:
    """Return the linear maps of a network, in the order in which it computes them. A copy of it runs on the example."""
    traced = copy.deepcopy(network).eval()
    for parameter in traced.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        parameter.requires_grad_(parameter.is_floating_point())
    recorder = _Recorder(traced, example)
    with torch.enable_grad(), recorder:  # without gradients torch runs transformer layers as one operation
        traced(example)
    return tuple(dict.fromkeys(recorder.found))


class _Recorder(OperationMode):
    """Records the operations that multiply by parameters, or by arrays that are made of one parameter, element by element."""

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.found: list[LinearMap] = []
        self.parameters: dict[int, tuple[str, Tensor]] = {}
        # The tensors are kept, so that their addresses are not used again.
        self.activations: dict[int, Tensor] = {_address(example): example}
        for name, parameter in network.named_parameters():
            self.parameters[_address(parameter)] = (name, parameter)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        operation = Operation(func, args, kwargs or {}, lambda tensor: [])
        result = func(*args, **(kwargs or {}))
        operation.results = tuple(tensor_leaves(result))
        self._record(operation)
        self._follow(operation)
        return result

    def _record(self, operation: Operation) -> None:
        """Record an operand of a product that belongs to a parameter."""
        for argument, summed, batched in _operands(operation):
            operand = operation[argument]
            if _address(operand) not in self.parameters:
                continue
            name, _ = self.parameters[_address(operand)]
            start = operand.storage_offset()
            stop = start + 1
            for size, stride in zip(operand.shape, operand.stride(), strict=True):
                stop += (size - 1) * stride
            self.found.append(LinearMap(name, start, stop, summed, batched))

    def _follow(self, operation: Operation) -> None:
        """Note results that depend on the input, and copies of a parameter, such as a standardized weight."""
        sources = operation.tensors()
        if any(_address(source) in self.activations for source in sources):
            for result in operation.results:
                self.activations[_address(result)] = result
            return
        if operation.name in _PRODUCTS:
            return
        for source in sources:
            known = self.parameters.get(_address(source))
            if known is None or not source.is_contiguous() or source.numel() != known[1].numel():
                continue
            for result in operation.results:
                if result.is_contiguous() and result.numel() == source.numel():
                    self.parameters.setdefault(_address(result), (known[0], result))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


_PRODUCTS: dict[str, tuple[tuple[str, int], ...]] = {
    "mm": (("self", 1), ("mat2", 0)),
    "addmm": (("mat1", 1), ("mat2", 0)),
    "bmm": (("self", 2), ("mat2", 1)),
    "baddbmm": (("batch1", 2), ("batch2", 1)),
    "mv": (("self", 1), ("vec", 0)),
    "addmv": (("mat", 1), ("vec", 0)),
    "linear": (("weight", 1),),
}
"""By operation: its operands, with the axis that is summed over. A third axis comes first and is that of the batch."""


def _operands(operation: Operation) -> list[tuple[str, tuple[Steps, ...], tuple[Steps, ...]]]:
    """Return the operands of a product with the axes that it sums over, and those of independent products."""
    if operation.name in ("convolution", "_convolution"):
        return [("weight", *_convolution_axes(operation))]
    found: list[tuple[str, tuple[Steps, ...], tuple[Steps, ...]]] = []
    for argument, axis in _PRODUCTS.get(operation.name, ()):
        operand = operation[argument]
        batched: tuple[Steps, ...] = ()
        if operand.dim() == 3:
            batched = (_steps(operand, 0),)
        found.append((argument, (_steps(operand, axis),), batched))
    return found


def _convolution_axes(operation: Operation) -> tuple[tuple[Steps, ...], tuple[Steps, ...]]:
    """Return the axes of a convolution's weight that it sums over, and those of the groups of channels.

    The weight is (out, in / groups, …), or (in, out / groups, …) for a transposed convolution.
    """
    weight, groups = operation["weight"], operation["groups"]
    first, second = _steps(weight, 0), _steps(weight, 1)
    within = Steps(first.size // groups, first.stride)
    batched = (Steps(groups, within.size * first.stride),)
    if operation["transposed"]:
        return (within,), batched
    return (second,), batched


def _steps(tensor: Tensor, axis: int) -> Steps:
    return Steps(tensor.shape[axis], tensor.stride(axis))
