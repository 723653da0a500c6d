"""The linear maps, convolutions and normalizations that a forward pass calls, in order; their outputs can be replaced.

Calls are recognized as functions of `torch.nn.functional`, not by modules: a module may do more than one of them, and more
after it. Maps that are written as products with a parameter are not seen as calls; `Product` tells of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from harness import kernels
from harness_metrics.corrections.attention import OPEN_FUNCTIONS


@dataclass(frozen=True)
class CallKind:
    """A function: the positions of its weight and bias (None: it has none), and whether it normalizes.

    `axis` is the channel axis of its output.
    `foldable`: channels are the first axis of the weight. `shape`: the normalized axes are the last ones, and an argument.
    """

    weight: int
    bias: int | None
    axis: int = 1
    normalizes: bool = False
    foldable: bool = True
    shape: bool = False


_CONVOLUTION = CallKind(1, 2)
_TRANSPOSED = CallKind(1, 2, foldable=False)
_BY_SHAPE = CallKind(2, 3, normalizes=True, shape=True)
_BY_STATISTICS = CallKind(3, 4, normalizes=True)
KINDS: dict[Any, CallKind] = {
    F.linear: CallKind(1, 2, axis=-1),
    F.conv1d: _CONVOLUTION,
    F.conv2d: _CONVOLUTION,
    F.conv3d: _CONVOLUTION,
    F.conv_transpose1d: _TRANSPOSED,
    F.conv_transpose2d: _TRANSPOSED,
    F.conv_transpose3d: _TRANSPOSED,
    F.layer_norm: _BY_SHAPE,
    torch.layer_norm: _BY_SHAPE,
    F.rms_norm: CallKind(2, None, normalizes=True, shape=True),
    F.group_norm: CallKind(2, 3, normalizes=True),
    torch.group_norm: CallKind(2, 3, normalizes=True),
    F.batch_norm: _BY_STATISTICS,
    F.instance_norm: _BY_STATISTICS,
}

_PRODUCTS = {
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "einsum", "tensordot", "bilinear"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
}
"""Names of functions that may apply a linear map and are no `CallKind`."""


@dataclass(frozen=True)
class Call:
    """One call: its number in the forward pass, its arguments, and its output.

    The nodes are those of input and output in the graph of gradients when the call ended; a later operation may change a tensor
    in place. They are kept, so that a node stays the same object.
    """

    number: int
    kind: CallKind
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: Tensor
    input_node: Any
    output_node: Any

    @property
    def weight(self) -> Any:
        """The weight, or None."""
        return self._argument(self.kind.weight, "weight")

    @property
    def bias(self) -> Any:
        """The bias, or None."""
        if self.kind.bias is None:
            return None
        return self._argument(self.kind.bias, "bias")

    @property
    def axis(self) -> int:
        """The channel axis of the output."""
        if self.kind.shape:
            return -len(self._argument(1, "normalized_shape"))
        return self.kind.axis

    @property
    def keeps_statistics(self) -> bool:
        """Whether the call normalizes by running statistics."""
        return self.kind is _BY_STATISTICS and self._argument(1, "running_mean") is not None

    def _argument(self, position: int, name: str) -> Any:
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name)


@dataclass(frozen=True)
class Product:
    """A call of a function that multiplies tensors, such as `torch.einsum` or `torch.lstm`, with its tensors."""

    function: str
    tensors: Sequence[Tensor]


Observe = Callable[[Call], Tensor]
"""A function of a call that returns what replaces its output."""

Note = Callable[[Product], None]
"""A function that is told of products."""


class _CallMode(TorchFunctionMode):
    """Passes every call of a forward pass to a function."""

    def __init__(self, observe: Observe, note: Note | None) -> None:
        super().__init__()
        self._observe = observe
        self._note = note
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in OPEN_FUNCTIONS:
            with self:
                return OPEN_FUNCTIONS[func](*args, **kwargs)
        output = func(*args, **kwargs)
        kind = KINDS.get(func)
        if kind is None:
            self._note_product(func, (args, kwargs))
            return output
        source = args[0] if args else kwargs["input"]
        call = Call(self._count, kind, args, kwargs, output, source.grad_fn, output.grad_fn)
        self._count += 1
        return self._observe(call)

    def _note_product(self, func: Any, arguments: Any) -> None:
        name = getattr(func, "__name__", "")
        if self._note is not None and name in _PRODUCTS:
            self._note(Product(name.strip("_"), [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]))


class ForwardObserver:
    """Hooks of a network that pass the calls of each of its forward passes to a function. `remove` ends that.

    Fused kernels are not used in these passes: they would hide calls. `note`, if given, is told of products.
    """

    def __init__(self, network: nn.Module, observe: Observe, note: Note | None = None) -> None:
        self._observe = observe
        self._note = note
        self._stack = ExitStack()
        self._handles: list[RemovableHandle] = [
            network.register_forward_pre_hook(self._enter),
            network.register_forward_hook(self._leave, prepend=True, always_call=True),  # the last to enter leaves first
        ]

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> ForwardObserver:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(kernels.enabled(False))
        self._stack.enter_context(_CallMode(self._observe, self._note))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Recording:
    """The calls and products of a forward pass, and the logits, all with their graph of gradients."""

    calls: Sequence[Call]
    products: Sequence[Product]
    logits: Tensor


def recorded_calls(network: nn.Module, images: Tensor) -> Recording:
    """Return the calls of a forward pass."""
    calls: list[Call] = []
    products: list[Product] = []

    def record(call: Call) -> Tensor:
        calls.append(call)
        return call.output

    with torch.enable_grad(), ForwardObserver(network, record, products.append):
        logits: Tensor = network(images.clone().requires_grad_().clone())  # a network may change its input in place
    return Recording(calls, products, logits)
