"""What plugins give, checked before anything is made of it; what they change, put back. Knows no task and no store."""

from __future__ import annotations

import functools
import numbers
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Architecture, Dataset, MetricValue, Objective, Split
from harness.api.plugin import Plugin
from harness.errors import PluginFailed, attribute_errors
from harness.networks.flat_network import StateDict
from harness.registry.catalogue import Catalogue
from harness.results.rows import Better

MAX_VALUES = 100_000
"""Values that a metric may give for one ensemble; one that yields without end is stopped there."""

_MAIN = threading.main_thread()  # only there may handlers of signals be set
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]
_CUDNN = ("enabled", "benchmark", "deterministic")


class ProcessState:
    """What of a process its work depends on and a plugin may change: threads, torch's defaults, the working folder, what
    signals do. Global generators are nobody's: nothing draws from them."""

    def __init__(self, threads: int) -> None:
        self._threads, self._folder, self._errors = threads, Path.cwd(), np.geterr()
        self._determinism = _determinism()
        self._precision, self._depth = torch.get_float32_matmul_precision(), sys.getrecursionlimit()
        self._cudnn = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN}
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self.restore()

    def restore(self) -> None:
        """Set it to what it was."""
        torch.set_num_threads(self._threads)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_default_device(None)
        if _determinism() != self._determinism:  # to set it imports torch's compiler, which takes longer than torch itself
            torch.use_deterministic_algorithms(self._determinism[0], warn_only=self._determinism[1])
        torch.set_float32_matmul_precision(self._precision)
        for name, value in self._cudnn.items():
            setattr(torch.backends.cudnn, name, value)
        np.seterr(**self._errors)
        sys.setrecursionlimit(self._depth)
        os.chdir(self._folder)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler and threading.current_thread() is _MAIN:
                signal.signal(number, handler)


def _determinism() -> tuple[bool, bool]:
    """Return whether algorithms must be deterministic, and whether others only warn."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def watch_loss(objective: Objective, who: str) -> Objective:
    """Return an objective whose errors name it and whose loss is one: the same object, for it may be more than its loss."""
    plain = objective.loss

    @functools.wraps(plain)
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        with attribute_errors(who, "loss"):
            given: Any = plain(*args, **kwargs)
        if not isinstance(given, Tensor) or given.dim():
            shape = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise PluginFailed(f"{who}: loss gave {shape}; a scalar tensor is expected")
        if not given.is_floating_point():
            raise PluginFailed(f"{who}: loss gave {given.dtype}; a floating-point scalar is expected")
        return given

    vars(objective)["loss"] = loss
    return objective


def plugin_label(catalogue: Catalogue, kind: str, plugin: Plugin) -> str:
    """Return how messages call a plugin: kind, name, and where it comes from."""
    return f"{kind} '{plugin.full_name}' of {catalogue.registration(kind, plugin.name).source}"


def architecture_for(catalogue: Catalogue, identity: dict[str, Any], data: Path) -> Architecture:
    """Return the architecture that a task's identity describes, as this machine can build it.

    Raise `UserError` if a file that it is built from is missing or another.
    """
    named: Architecture = catalogue.from_identity("architecture", identity)
    who = plugin_label(catalogue, "architecture", named)
    with attribute_errors(who, "located"):
        architecture = named.located(data)
        architecture.check_identity(identity)
    return architecture


def build_module(architecture: Architecture, who: str, dataset: Dataset, stream: int) -> torch.nn.Module:
    with streams.seeded(stream), attribute_errors(who, "build"):
        module = architecture.build(dataset.shape, dataset.num_classes)
    if not isinstance(module, torch.nn.Module) or not any(True for _ in module.parameters()):
        raise PluginFailed(f"{who}: build gave {type(module).__name__}; a module with parameters is expected")
    with attribute_errors(who, "train"):
        module.train()  # networks that freeze parts of themselves do it here
    return module


def check_split(what: str, split: Any, dataset: Dataset) -> None:
    """Refuse a split that is not what every later step takes for granted; a label out of range would end a CUDA process."""
    problem = _split_problem(split, dataset)
    if problem:
        wanted = f"images uint8 (n, {', '.join(map(str, dataset.shape))}) with labels int64 (n,) below {dataset.num_classes}"
        raise PluginFailed(f"{what} that is not {wanted}: {problem}")


def _split_problem(split: Any, dataset: Dataset) -> str:
    """Say what is wrong with a split, or nothing."""
    if not isinstance(split, Split):
        return f"it is a {type(split).__name__}"
    for name, tensor, dtype in (("images", split.images, torch.uint8), ("labels", split.labels, torch.int64)):
        if not isinstance(tensor, Tensor):
            return f"its {name} are a {type(tensor).__name__}"
        if tensor.dtype != dtype:
            return f"its {name} are {tensor.dtype}"
    if split.labels.dim() != 1 or split.images.shape != (len(split.labels), *dataset.shape):
        return f"its images are {tuple(split.images.shape)} and its labels {tuple(split.labels.shape)}"
    if not len(split):
        return "it is empty"
    least, most = int(split.labels.min()), int(split.labels.max())
    return "" if least >= 0 and most < dataset.num_classes else f"its labels go from {least} to {most}"


def check_states(what: str, states: Sequence[dict[str, Any]], outputs: int, like: StateDict) -> None:
    """Refuse derived weights that are not as many as declared, or do not fit the network."""
    if len(states) != outputs:
        raise PluginFailed(f"{what} {len(states)} states; it declares {outputs}")
    for state in states:
        for name, tensor in sorted(like.items()):
            given = state.get(name)
            if not isinstance(given, Tensor) or given.shape != tensor.shape:
                raise PluginFailed(f"{what} no tensor '{name}' of shape {tuple(tensor.shape)}")
            if given.dtype != tensor.dtype:
                raise PluginFailed(f"{what} '{name}' as {given.dtype}; its parents have {tensor.dtype}")
        if len(state) > len(like):
            raise PluginFailed(f"{what} a tensor '{min(set(state) - set(like))}' that the network does not have")


def check_logits(who: str, logits: Any, shape: tuple[int, int], where: str) -> None:
    """Refuse outputs that are not finite logits of a shape (batch, classes); `where` says on what they were computed."""
    expected = f"a tensor {shape} of logits is expected"
    if not isinstance(logits, Tensor):
        raise PluginFailed(f"{who}: gives a {type(logits).__name__} {where}; {expected}")
    if tuple(logits.shape) != shape:
        raise PluginFailed(f"{who}: gives a tensor {tuple(logits.shape)} {where}; {expected}")
    if logits.layout != torch.strided:
        raise PluginFailed(f"{who}: gives a tensor of layout {logits.layout} {where}; {expected}")
    if not logits.is_floating_point():
        raise PluginFailed(f"{who}: gives {logits.dtype} {where}; {expected}")
    if not bool(torch.isfinite(logits).all()):
        raise PluginFailed(f"{who}: gives logits that are not finite {where}")


def check_values(what: str, values: Sequence[Any], name: str) -> None:
    """Refuse values that cannot become rows."""
    if not values or not all(isinstance(v, MetricValue) for v in values) or values[0].metric != name:
        raise PluginFailed(f"{what} {values!r:.80}; its own MetricValue first is expected")
    if len(values) > MAX_VALUES:
        raise PluginFailed(f"{what} more than {MAX_VALUES} values")
    for value in values:
        right = isinstance(value.metric, str) and value.metric.isprintable() and 0 < len(value.metric) <= 100
        right = right and isinstance(value.unit, str) and len(value.unit) <= 100 and value.better in get_args(Better)
        if not (right and _is_number(value.value) and (value.standard_error is None or _is_number(value.standard_error))):
            raise PluginFailed(f"{what} {value!r:.200}; a name, numbers, a unit and higher, lower or nothing are expected")
    names = [value.metric for value in values]
    if len(set(names)) < len(names):
        raise PluginFailed(f"{what} two values named '{next(n for n in names if names.count(n) > 1)}'")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.number) or (isinstance(value, Tensor | np.ndarray) and value.size == 1)
