"""Compiled forward passes, for any number of shapes in a process. A pass that runs without being compiled is noticed.

torch's compiler stops compiling a function after eight variants of it, and then runs it as it is. The networks of one class
share their functions, so eight widths of one network would be the limit of a process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from harness.training.trace import NotCapturable

Forward = Callable[[Tensor], Tensor]
"""A forward pass: images (batch, channels, height, width) to logits (batch, classes)."""

_MOST_VARIANTS = 10_000  # of one function; each is compared with the arguments of a call until one fits


class WatchedForward:
    """A compiled forward pass of a module. It notes whether the module was ever run without being compiled."""

    def __init__(self, module: nn.Module, compile_forward: Callable[[Forward], Forward]) -> None:
        self._uncompiled_calls: list[int] = []
        self._forward = compile_forward(_marked(module, self._uncompiled_calls))

    def __call__(self, images: Tensor) -> Tensor:
        return self._forward(images)

    def check(self) -> None:
        """Raise `NotCapturable` if a call ran without being compiled: with a disabled compiler, for example."""
        if self._uncompiled_calls:
            raise NotCapturable("torch's compiler did not compile the forward pass, and ran it as it is")


def _marked(module: nn.Module, uncompiled_calls: list[int]) -> Forward:
    """Return a module's forward pass that appends to a list if it is not traced by the compiler."""

    def forward(images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            uncompiled_calls.append(1)
        logits: Tensor = module(images)
        return logits

    return forward


def many_variants() -> AbstractContextManager[Any]:
    """Let the compiler compile any number of variants of a function within the block."""
    from torch._dynamo import config  # takes seconds to import

    names = ["recompile_limit", "accumulated_recompile_limit"]
    if not hasattr(config, names[0]):  # torch 2.6
        names = ["cache_size_limit", "accumulated_cache_size_limit"]
    patch: AbstractContextManager[Any] = config.patch(dict.fromkeys(names, _MOST_VARIANTS))
    return patch
