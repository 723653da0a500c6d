"""Checks of values that plugins return. Independent of tasks and store."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from harness.api.data import Split
from harness.api.interfaces import Dataset, Metric, MetricValue
from harness.errors import PluginFailed
from harness.networks.flat_network import StateDict
from harness.results.rows import Better

MAX_VALUES = 100_000
"""Most values that a metric may return for one ensemble. A metric may yield forever."""

_MEAN_TOLERANCE = 1e-5  # of the mean size of the examples: a metric may compute in float32


def check_split(what: str, split: Any, dataset: Dataset) -> None:
    """Raise `PluginFailed` for a split with wrong types, shapes or labels. On CUDA a wrong label would end the process."""
    problem = _split_problem(split, dataset)
    if problem:
        shape = ", ".join(map(str, dataset.shape))
        expected = f"images uint8 (n, {shape}) with labels int64 (n,) below {dataset.num_classes}"
        raise PluginFailed(f"{what} that is not {expected}: {problem}")


def _split_problem(split: Any, dataset: Dataset) -> str:
    """Return what is wrong with a split, or ""."""
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
    if least < 0 or most >= dataset.num_classes:
        return f"its labels go from {least} to {most}"
    return ""


def check_states(what: str, states: Sequence[dict[str, Any]], outputs: int, like: StateDict) -> None:
    """Raise `PluginFailed` unless there are `outputs` state dicts with the names, shapes and dtypes of `like`."""
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


def check_logits(label: str, logits: Any, shape: tuple[int, int], where: str) -> None:
    """Raise `PluginFailed` unless `logits` are finite floating-point logits of `shape` (batch, classes).

    `where` says in messages how they were computed.
    """
    expected = f"a tensor {shape} of logits is expected"
    if not isinstance(logits, Tensor):
        raise PluginFailed(f"{label}: gives a {type(logits).__name__} {where}; {expected}")
    if tuple(logits.shape) != shape:
        raise PluginFailed(f"{label}: gives a tensor {tuple(logits.shape)} {where}; {expected}")
    if logits.layout != torch.strided:
        raise PluginFailed(f"{label}: gives a tensor of layout {logits.layout} {where}; {expected}")
    if not logits.is_floating_point():
        raise PluginFailed(f"{label}: gives {logits.dtype} {where}; {expected}")
    if not bool(torch.isfinite(logits).all()):
        raise PluginFailed(f"{label}: gives logits that are not finite {where}")


def check_values(what: str, values: Sequence[Any], name: str) -> None:
    """Raise `PluginFailed` for values of a metric that cannot become rows. `name` is the metric's name."""
    if not values or not all(isinstance(v, MetricValue) for v in values):
        raise PluginFailed(f"{what} {values!r:.80}; its own MetricValue first is expected")
    if values[0].metric != name:
        raise PluginFailed(f"{what} '{values[0].metric}' first; its own MetricValue first is expected, named '{name}'")
    if len(values) > MAX_VALUES:
        raise PluginFailed(f"{what} more than {MAX_VALUES} values")
    names: set[str] = set()
    for value in values:
        if not _is_valid(value):
            raise PluginFailed(f"{what} {value!r:.200}; a name, numbers, a unit and higher, lower or nothing are expected")
    for value in values:
        if value.metric in names:
            raise PluginFailed(f"{what} two values named '{value.metric}'")
        names.add(value.metric)


def check_direction(what: str, metric: Metric, value: MetricValue) -> None:
    """Raise `PluginFailed` if a metric's main value has another direction than its class declares."""
    if metric.better is not None and value.better != metric.better:
        raise PluginFailed(f"{what} a value with better={value.better!r}; its class declares better={metric.better!r}")


def check_examples(what: str, values: Sequence[MetricValue], images: int) -> None:
    """Raise `PluginFailed` for examples of values that are not one number per test image with the value as their mean."""
    for value in values:
        if value.examples is None:
            continue
        problem = _examples_problem(value, images)
        if problem:
            raise PluginFailed(f"{what} examples of '{value.metric}' {problem}")


def _examples_problem(value: MetricValue, images: int) -> str:
    """Return what is wrong with the examples of a value, or ""."""
    examples: Any = value.examples
    if not isinstance(examples, np.ndarray) or examples.dtype.kind not in "biuf":
        return f"of type {type(examples).__name__}; a NumPy array of numbers is expected"
    if examples.shape != (images,):
        return f"of shape {examples.shape}; one number per test image, ({images},), is expected"
    contributions = examples.astype(np.float64)
    mean = float(contributions.mean())
    expected = float(value.value)
    if math.isfinite(mean):
        is_mean = abs(mean - expected) <= _MEAN_TOLERANCE * float(np.abs(contributions).mean())
    else:
        is_mean = repr(mean) == repr(expected)  # infinite, or NaN
    return "" if is_mean else f"with mean {mean:.6g}; their mean must be the value, {expected:.6g}"


def _is_valid(value: MetricValue) -> bool:
    """Return whether a value's fields have valid types, lengths and choices."""
    has_name = isinstance(value.metric, str) and value.metric.isprintable() and 0 < len(value.metric) <= 100
    has_unit = isinstance(value.unit, str) and len(value.unit) <= 100
    has_error = value.standard_error is None or _is_number(value.standard_error)
    return has_name and has_unit and has_error and _is_number(value.value) and value.better in get_args(Better)


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, or an array with one element."""
    if isinstance(value, Tensor | np.ndarray):
        return math.prod(value.shape) == 1
    return isinstance(value, numbers.Real | np.number)
