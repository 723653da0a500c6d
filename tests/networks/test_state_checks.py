"""Modules that cannot be trained, stored or loaded, and differences between two builds."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.networks.differences import differing_attributes, differing_constants, differing_tensors
from harness.networks.state_checks import state_problem


def with_parameter(tensor: torch.Tensor) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].odd = nn.Parameter(tensor)
    return module


def with_buffer(tensor: torch.Tensor, persistent: bool = True) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].register_buffer("odd", tensor, persistent=persistent)
    return module


class WithExtraState(nn.Linear):
    """Has extra state besides its tensors."""

    def __init__(self, kept: Any) -> None:
        super().__init__(2, 2)
        self.kept = kept

    def get_extra_state(self) -> Any:
        return self.kept

    def set_extra_state(self, state: Any) -> None:
        self.kept = state


def frozen() -> nn.Module:
    return nn.Linear(2, 2).requires_grad_(False)


def sharing() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight.data = module[0].weight.data
    return module


def viewing() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_buffer("row", module[0].weight.data[1])
    return module


def hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    return module


def parts_of_one_tensor() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].even = nn.Parameter(torch.randn(6)[::2])
    whole = torch.randn(2, 3)
    for name, row in zip("ab", whole, strict=True):
        module.register_buffer(name, row)
    for name, column in zip("cd", torch.randn(3, 2).t(), strict=True):
        module.register_buffer(name, column)
    return module


def renamed() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_state_dict_post_hook(lambda module, state, prefix, meta: state.update(other=state.pop("weight")))
    return module


PROBLEMS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "complex parameter": (
        lambda: with_parameter(torch.zeros(3, dtype=torch.complex64)),
        "parameter '0.odd' is torch.complex64; parameters are torch.float32 "
        "(a complex one is two real ones and torch.view_as_complex)",
    ),
    "double parameter": (lambda: with_parameter(torch.zeros(3, dtype=torch.float64)), "parameter '0.odd' is torch.float64"),
    "half parameter": (lambda: with_parameter(torch.zeros(3, dtype=torch.float16)), "parameter '0.odd' is torch.float16"),
    "network in half precision": (lambda: nn.Linear(2, 2).bfloat16(), "parameter 'weight' is torch.bfloat16"),
    "lazy module": (lambda: nn.Sequential(nn.LazyLinear(2)), "parameter '0.weight' has no shape yet (a lazy module)"),
    "meta device": (lambda: nn.Linear(2, 2, device="meta"), "parameter 'weight' is on the meta device"),
    "sparse parameter": (lambda: with_parameter(torch.eye(2).to_sparse()), "parameter '0.odd' is torch.sparse_coo"),
    "complex buffer": (
        lambda: with_buffer(torch.zeros(2, dtype=torch.complex64)),
        "buffer '0.odd' is torch.complex64, which cannot be stored; register it with persistent=False if every build makes the",
    ),
    "extra state that is no tensor": (
        lambda: nn.Sequential(WithExtraState({"scale": 2})),
        "the extra state '0._extra_state' is a dict; only tensors can be stored",
    ),
    "nothing to train": (frozen, "no parameter is trained: all have requires_grad=False"),
    "two parameters in one memory": (sharing, "'0.weight' and '1.weight' share memory; use one nn.Parameter in both places"),
    "a buffer that is a row of a parameter": (viewing, "'0.weight' and 'row' share memory; use one nn.Parameter in both"),
    "expanded parameter": (
        lambda: with_parameter(torch.ones(1).expand(3)),
        "'0.odd' has several elements in one place of memory (an expanded tensor); use .clone()",
    ),
    "expanded buffer": (
        lambda: with_buffer(torch.ones(2, 1).expand(2, 3)),
        "'0.odd' has several elements in one place of memory (an expanded tensor); use .clone()",
    ),
    "hook on an accumulated gradient": (hooked, "parameter 'weight' has a post-accumulate-grad hook, which is not called here"),
    "state dict with other names": (renamed, "the state dict has 'other', which is neither a parameter nor a buffer"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_module_that_cannot_be_stored(name: str) -> None:
    """The message names the parameter, buffer or entry, and says what is allowed."""
    make, text = PROBLEMS[name]
    assert state_problem(make()).startswith(text)


TIED = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
TIED[1].weight = TIED[0].weight

GOOD: dict[str, nn.Module] = {
    "one parameter in two places": TIED,
    "integer buffer": with_buffer(torch.arange(3)),
    "boolean buffer": with_buffer(torch.tensor([True])),
    "double buffer": with_buffer(torch.zeros(2, dtype=torch.float64)),
    "complex constant": with_buffer(torch.zeros(2, dtype=torch.complex64), persistent=False),
    "extra state that is a tensor": WithExtraState(torch.ones(2)),
    "empty parameter": with_parameter(torch.zeros(0)),
    "tensors in one memory that do not overlap": parts_of_one_tensor(),
    "BatchNorm": nn.BatchNorm2d(3),
    "weight normalization": torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "some frozen parameters": nn.Sequential(nn.Linear(2, 2), frozen()),
}


@pytest.mark.parametrize("name", GOOD)
def test_module_that_can_be_stored(name: str) -> None:
    """The message is empty."""
    assert state_problem(GOOD[name]) == ""


def test_differing_constants() -> None:
    """Buffers outside the state dict that differ are named."""
    one, other = (with_buffer(torch.full((2,), value), persistent=False) for value in (1.0, 2.0))
    assert differing_constants(one, other) == ["0.odd"]
    assert differing_constants(one, one) == []


VALUES: list[tuple[Any, Any]] = [
    (0.5, 0.25),
    (1, 2),
    ("a", "b"),
    (torch.ones(2), torch.zeros(2)),
    (np.ones(2), np.zeros(2)),
    (np.float32(1), np.float32(2)),
    ([1, 2], [2, 1]),
    ([1, 2], [1, 2, 3]),
    ({"a": torch.ones(2)}, {"a": torch.zeros(2)}),
    ((1, [2.0, {"x": 3}]), (1, [2.0, {"x": 4}])),
    ({1, 2}, {1, 3}),
    ([[[[[[[1]]]]]]], [[[[[[[2]]]]]]]),
    (None, torch.ones(2)),
    (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    (random.Random(1), random.Random(2)),
    (np.random.RandomState(1), np.random.RandomState(2)),
    (np.random.default_rng(1), np.random.default_rng(2)),
    (SimpleNamespace(a=[1]), SimpleNamespace(a=[2])),
    ([nn.Linear(2, 2)], [nn.Linear(2, 2)]),
]


@pytest.mark.parametrize(("one", "other"), VALUES)
def test_differing_attributes(one: Any, other: Any) -> None:
    """A plain value of any type is named if it differs, and only then."""
    networks = []
    for value in (one, other, one):
        module = nn.Sequential(nn.Linear(2, 2))
        module[0].kept = value
        networks.append(module)
    assert differing_attributes(networks[0], networks[1]) == ["0.kept"]
    assert differing_attributes(networks[0], networks[2]) == []


def test_attribute_that_contains_itself() -> None:
    """The comparison of a list that contains itself ends."""
    networks = []
    for number in (1, 2):
        module = nn.Linear(2, 2)
        module.kept = [number]
        module.kept.insert(0, module.kept)
        networks.append(module)
    assert differing_attributes(networks[0], networks[1]) == ["kept"]
    assert differing_attributes(networks[0], networks[0]) == []


def test_differing_tensors() -> None:
    """A tensor that only one of two state dicts has is named."""
    one, other = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    other.weight.data.copy_(one.weight)
    assert differing_tensors(one, other) == ["bias"]
