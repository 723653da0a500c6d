"""The alignment `scales`: its contract, its facts and options, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toys
from conftest import Lab
from harness import Architecture, DerivationContext, StateDict, TaskFailed, streams
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, derivation_context
from harness_basin.alignments.scales import ScaleAlignment
from harness_basin.matching import (
    LinearGroup,
    Mismatch,
    Symmetry,
    act,
    derive_linear_groups,
    derive_symmetry,
    permute,
    random_elements,
    random_permutations,
)
from harness_vision.resnet20 import ResNet20
from harness_vision.vit import ViT


class Linear(Architecture):
    """A linear classifier: no hidden units."""

    name = "linear"

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))


class SquaredReLU(nn.Module):
    """The square of ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class Squared(Architecture):
    """A hidden layer with squared ReLU."""

    name = "squared"

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 12), SquaredReLU(), nn.Linear(12, num_classes))


ARCHITECTURES: dict[str, Architecture] = {
    "perceptron": toys.Perceptron(toys.Perceptron.Options(width=40)),
    "resnet20": ResNet20(ResNet20.Options(width=0.25)),
    "vit": ViT(ViT.Options(patch=2, width=32, mlp=24, depth=1, heads=4)),
}


def context_of(tmp_path: Path, name: str = "perceptron") -> DerivationContext:
    """Return a context for one of the architectures."""
    return derivation_context(ARCHITECTURES[name], toys.Blobs(), tmp_path)


def symmetries_of(context: DerivationContext) -> tuple[Symmetry, tuple[LinearGroup, ...]]:
    """Return the permutation symmetry and the scales of a context's network."""
    network = context.network().eval()
    images = context.normalize(context.test.images[:2])
    symmetry = derive_symmetry(network, images)
    return symmetry, derive_linear_groups(network, images, symmetry).of_kind("scale")


def member(context: DerivationContext, number: int) -> StateDict:
    """Return weights with noise."""
    with streams.seeded(streams.key("member", number)):
        return {name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in context.network().state_dict().items()}


def aligned(context: DerivationContext, other: StateDict, **options: Any) -> tuple[StateDict, dict[str, Any]]:
    """Return the aligned second network of a pair, and the facts."""
    ((moved,), facts) = ScaleAlignment(ScaleAlignment.Options(**options)).derive([member(context, 0), other], context)
    return moved, dict(facts)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contract_alone(name: str, tmp_path: Path) -> None:
    """Planted scales are recovered, functions stay, and the first member is not moved."""
    context = context_of(tmp_path, name)
    _, groups = symmetries_of(context)
    check_alignment(
        ScaleAlignment(), context, lambda state, seed: act(groups, random_elements(groups, seed), state), exact=False
    )


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_contract_with_permutations(name: str, tmp_path: Path) -> None:
    """Planted permutations with scales are recovered, functions stay, and the first member is not moved."""
    context = context_of(tmp_path, name)
    symmetry, groups = symmetries_of(context)

    def planted(state: StateDict, seed: int) -> StateDict:
        scaled = act(groups, random_elements(groups, seed), state)
        return permute(symmetry, random_permutations(symmetry, seed), scaled)

    check_alignment(ScaleAlignment(ScaleAlignment.Options(permutations=True)), context, planted, exact=False)


def test_facts(tmp_path: Path) -> None:
    """They have the distances, a falling trace, the objective of the result, and what was solved and read."""
    context = context_of(tmp_path)
    symmetry, groups = symmetries_of(context)
    moved, facts = aligned(context, member(context, 1))
    assert facts["distance"] < facts["distance_before"]
    (trace,) = facts["trace"]
    assert trace == sorted(trace, reverse=True)
    assert trace[0] == pytest.approx(facts["distance_before"] ** 2)
    assert trace[-1] == pytest.approx(facts["distance"] ** 2)
    assert facts["sweeps"] == len(trace) - 1
    assert (facts["scale_groups"], facts["scales"]) == (len(groups), sum(group.size for group in groups))
    assert (facts["assignments"], facts["images"], facts["gradient_steps"]) == (0, 0, 0)
    assert facts["function_difference_float64"] <= 1e-9
    assert facts["function_difference"] <= 1e-5
    reference = member(context, 0)
    product = sum(float((reference[name].double() * moved[name].double()).sum()) for name in symmetry.shapes)
    assert facts["objective"] == pytest.approx(product)
    assert all(tensor.dtype == reference[name].dtype for name, tensor in moved.items())


def test_facts_with_permutations(tmp_path: Path) -> None:
    """Two descents and their assignments; the distance is not above that of scales alone."""
    context = context_of(tmp_path, "vit")
    _, alone = aligned(context, member(context, 1))
    _, together = aligned(context, member(context, 1), permutations=True)
    assert len(together["trace"]) == 2
    assert together["assignments"] > 0
    assert together["distance"] < alone["distance"]


def test_limit_of_sweeps(tmp_path: Path) -> None:
    """A descent stops after the given number of sweeps."""
    context = context_of(tmp_path)
    _, facts = aligned(context, member(context, 1), max_sweeps=2)
    assert facts["sweeps"] == 2


def test_network_without_scales(tmp_path: Path) -> None:
    """A network whose hidden units cannot be scaled is returned as it is, and the facts say that it has no groups."""
    context = derivation_context(Linear(), toys.Blobs(), tmp_path)
    other = member(context, 1)
    moved, facts = aligned(context, other)
    assert (facts["scale_groups"], facts["scales"], facts["refused"]) == (0, 0, [])
    assert facts["distance"] == facts["distance_before"]
    assert all(torch.equal(moved[name], tensor) for name, tensor in other.items())


def test_refused_groups_are_named(tmp_path: Path) -> None:
    """Where a scale is found but cannot be used, the facts say why, and the member is returned as it is."""
    context = derivation_context(Squared(), toys.Blobs(), tmp_path)
    other = member(context, 1)
    moved, facts = aligned(context, other)
    assert facts["refused"] == ["refused: scale 1.weight[0]: a factor would enter with a power other than 1 or -1"]
    assert all(torch.equal(moved[name], tensor) for name, tensor in other.items())


def test_diverged_member(tmp_path: Path) -> None:
    """A member with a value that is not a number fails in one line."""
    context = context_of(tmp_path)
    other = dict(member(context, 1))
    other["1.bias"] = torch.full_like(other["1.bias"], float("nan"))
    with pytest.raises(TaskFailed, match=r"parent 1 of the alignment: '1\.bias' has values that are not finite"):
        aligned(context, other)


def test_member_of_another_architecture(tmp_path: Path) -> None:
    """Weights of another shape are named."""
    context = context_of(tmp_path)
    narrow = derivation_context(toys.Perceptron(toys.Perceptron.Options(width=7)), toys.Blobs(), tmp_path)
    with pytest.raises(Mismatch, match=r"parent 1 of the alignment: parameter '1\.weight' has shape \(7, \d+\), the network's"):
        aligned(context, member(narrow, 1))


def test_run_of_a_benchmark(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """Members aligned by scales have the accuracy of the deep ones, to the image, alone and with permutations."""
    methods: list[Any] = ["deep", {"aligned": {"by": "scales"}}]
    methods.append({"aligned": {"by": {"scales": {"permutations": True}}, "label": "both"}})
    lab.run(graph_of(methods=methods, members=3))
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1
    assert set(rows[rows["method"] != "deep"]["method_version"]) == {"aligned@1+scale_alignment@1+deep@1"}
