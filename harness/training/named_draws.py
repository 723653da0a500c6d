"""Draws from torch's global generators in a network's forward pass, replaced by draws from the step's own stream.

Drop paths, functional dropout, dropout of channels, Gaussian noise and the like draw from a global generator. In a CUDA graph
siblings would share it. Within the block of `Draws.named`, every such operation gets its numbers from a `Noise` instead: a
function of (order stream, epoch, step, number), alone or in a group, in a graph or not. Integers and uniform numbers are equal
to the bit on every device, normal and exponential ones to rounding.

Only operations that PyTorch marks as random are touched (`torch.Tag.nondeterministic_seeded`). One for which there is no
replacement, or which has a generator of its own, draws as before, and is listed in `Draws.unnamed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.dropout import Noise

_DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
"""How many binary digits a number in [0, 1) may have so that it is exact in a type."""


class Draws:
    """Whether a network draws random numbers in its forward pass, and with which operations.

    `found` is None until a step has been taken in a block of `named`. `unnamed` has the operations that draw from a generator
    of torch.
    """

    def __init__(self, noise: Noise) -> None:
        self.found: bool | None = None
        self.unnamed: set[str] = set()
        self._noise = noise
        self._backward_is_checked = False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Draw from the step's stream within the block.

        If no operation draws within the first block, later blocks change nothing, and cost nothing.
        """
        if self.found is False:
            yield
            return
        mode = _NamedDraws(self._noise)
        with _PlainAttention(), mode:
            yield
        self.unnamed |= mode.unnamed
        self.found = bool(self.found or mode.has_drawn)

    @contextmanager
    def backward_checked(self) -> Iterator[None]:
        """Raise `RuntimeError` if the first backward pass of a network that draws repeats its forward pass.

        The noise must have ended. Checkpoints for the gradient are the reason, and they do not change during a training.
        """
        if self._backward_is_checked or not self.found:
            yield
            return
        with _NamedDraws(self._noise):
            yield
        self._backward_is_checked = True

    def forget(self) -> None:
        """Find out again in the next block whether the network draws."""
        if self.found is False:
            self.found = None


class _NamedDraws(TorchDispatchMode):
    """Replaces the random operations within the block."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.has_drawn = False
        self.unnamed: set[str] = set()
        self._noise = noise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        arguments = _arguments(func, args, kwargs)
        if not _is_random(arguments):
            return func(*args, **kwargs)
        self.has_drawn = True
        name = func.overloadpacket.__name__
        replacement = _REPLACEMENTS.get(name)
        if replacement is None or arguments.get("generator") is not None:
            self.unnamed.add(name)
            return func(*args, **kwargs)
        return replacement(self._noise, arguments)


class _PlainAttention(TorchFunctionMode):
    """Computes attention with dropout in single operations, since the fused kernels of CUDA draw the dropout themselves."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _dropout_of(*args, **kwargs):
            with sdpa_kernel(SDPBackend.MATH):
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *args: Any,
    **kwargs: Any,
) -> float:
    """Return the probability of dropout of `F.scaled_dot_product_attention`, whose arguments these are."""
    return dropout_p


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation by name, the defaults included."""
    arguments = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            arguments[argument.name] = args[position]
        else:
            arguments[argument.name] = kwargs.get(argument.name, argument.default_value)
    return arguments


def _is_random(arguments: dict[str, Any]) -> bool:
    """Return whether an operation draws numbers with these arguments: not dropout in evaluation, or with probability 0."""
    if arguments.get("train") is False or arguments.get("training") is False:
        return False
    for name, value in arguments.items():
        if name.startswith("drop") and isinstance(value, int | float) and value == 0:
            return False
    return True


def _chance(noise: Noise, like: Tensor, p: float) -> Tensor:
    """Return booleans in a tensor's shape that are True with probability p, to 2**-32."""
    count = like.numel()
    threshold = round(p * 2**32) - 2**31
    if threshold >= 2**31:
        return torch.ones(like.shape, dtype=torch.bool, device=like.device)
    numbers = noise.words(-(-count // 2), like.device).view(torch.int32)[:count]
    return (numbers < threshold).view(like.shape)


def _uniform(noise: Noise, like: Tensor) -> Tensor:
    """Return numbers in [0, 1) in a tensor's shape and type, each with as many binary digits as the type holds."""
    digits = _DIGITS.get(like.dtype, 24)
    words = noise.words(like.numel(), like.device)
    integers = (words >> (64 - digits)) & ((1 << digits) - 1)
    return (integers.to(like.dtype) * 2.0**-digits).view(like.shape)


def _normal(noise: Noise, like: Tensor) -> Tensor:
    """Return standard normal numbers in a tensor's shape and type (Box and Muller 1958)."""
    wide = torch.empty(like.shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    radius = torch.sqrt(-2 * torch.log1p(-_uniform(noise, wide)))
    return (radius * torch.cos(2 * math.pi * _uniform(noise, wide))).to(like.dtype)


def _integers(noise: Noise, like: Tensor, low: int, high: int) -> Tensor:
    """Return integers in [low, high) in a tensor's shape and type."""
    positive = (noise.words(like.numel(), like.device) >> 1) & (2**63 - 1)
    return (positive % (high - low) + low).to(like.dtype).view(like.shape)


def _new(arguments: dict[str, Any], default_dtype: torch.dtype | None = None) -> Tensor:
    """Return memory for the result of an operation that makes a tensor of a size, or like another one."""
    options = {name: arguments.get(name) for name in ("dtype", "layout", "device", "pin_memory")}
    if "self" in arguments:
        return torch.empty_like(arguments["self"], memory_format=torch.contiguous_format, **options)
    if not isinstance(options["dtype"], torch.dtype):  # a schema has the default type as a number
        options["dtype"] = default_dtype
    return torch.empty(arguments["size"], **options)


def _write(values: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Write values into the tensor of an operation that works in place, and return it."""
    tensor: Tensor = arguments["self"]
    return tensor.copy_(values)


def _bernoulli(noise: Noise, arguments: dict[str, Any]) -> Tensor:
    tensor = arguments["self"]
    p = arguments.get("p", tensor)
    if isinstance(p, Tensor):
        chances = p.expand(tensor.shape).to(tensor.device)
        return (_uniform(noise, chances) < chances).to(tensor.dtype)
    return _chance(noise, tensor, p).to(tensor.dtype)


def _native_dropout(noise: Noise, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    tensor, p = arguments["input"], arguments["p"]
    kept = _chance(noise, tensor, 1 - p)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return tensor * kept * scale, kept


def _scaled_normal(noise: Noise, like: Tensor, arguments: dict[str, Any]) -> Tensor:
    return _normal(noise, like) * arguments["std"] + arguments["mean"]


def _normal_of(noise: Noise, arguments: dict[str, Any]) -> Tensor:
    """Return normal numbers of a size, or one for each mean or deviation of a tensor."""
    if "size" in arguments:
        like = _new(arguments)
    else:
        like = torch.empty_like(arguments["mean"] + arguments["std"])
    return _scaled_normal(noise, like, arguments)


def _between(noise: Noise, like: Tensor, arguments: dict[str, Any]) -> Tensor:
    low, high = arguments["from"], arguments["to"]
    return _uniform(noise, like) * (high - low) + low


def _exponential(noise: Noise, arguments: dict[str, Any]) -> Tensor:
    return -torch.log1p(-_uniform(noise, arguments["self"])) / arguments["lambd"]


def _randint(noise: Noise, arguments: dict[str, Any]) -> Tensor:
    return _integers(noise, _new(arguments, torch.int64), arguments.get("low") or 0, arguments["high"])


def _permutation(noise: Noise, arguments: dict[str, Any]) -> Tensor:
    out = _new({**arguments, "size": [arguments["n"]]}, torch.int64)
    return torch.argsort(noise.words(arguments["n"], out.device), stable=True).to(out.dtype)


_REPLACEMENTS: dict[str, Callable[[Noise, dict[str, Any]], Any]] = {
    "bernoulli": _bernoulli,
    "bernoulli_": lambda noise, arguments: _write(_bernoulli(noise, arguments), arguments),
    "native_dropout": _native_dropout,
    "rand": lambda noise, arguments: _uniform(noise, _new(arguments)),
    "rand_like": lambda noise, arguments: _uniform(noise, _new(arguments)),
    "uniform": lambda noise, arguments: _between(noise, arguments["self"], arguments),
    "uniform_": lambda noise, arguments: _write(_between(noise, arguments["self"], arguments), arguments),
    "randn": lambda noise, arguments: _normal(noise, _new(arguments)),
    "randn_like": lambda noise, arguments: _normal(noise, _new(arguments)),
    "normal": _normal_of,
    "normal_": lambda noise, arguments: _write(_scaled_normal(noise, arguments["self"], arguments), arguments),
    "normal_functional": lambda noise, arguments: _scaled_normal(noise, arguments["self"], arguments),
    "exponential": _exponential,
    "exponential_": lambda noise, arguments: _write(_exponential(noise, arguments), arguments),
    "randint": _randint,
    "randint_like": _randint,
    "randperm": _permutation,
}
