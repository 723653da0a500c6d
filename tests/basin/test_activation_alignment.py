"""The alignment `activations`: its contract, its facts and options, the images that it reads, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toys
from basin.matching.toy_networks import FACTORIES, SHAPE, TokenMixer, built
from conftest import Lab
from harness import Architecture, DerivationContext, Split, StateDict, TaskFailed, streams
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, derivation_context
from harness_basin.alignments.activations import ActivationMatching, batch_size
from harness_basin.matching import Symmetry, derive_symmetry, permute, random_permutations
from harness_vision.resnet20 import ResNet20
from harness_vision.vit import ViT

ARCHITECTURES: dict[str, Architecture] = {
    "perceptron": toys.Perceptron(toys.Perceptron.Options(width=40)),
    "resnet20": ResNet20(ResNet20.Options(width=0.25)),
    "vit": ViT(ViT.Options(patch=2, width=16, mlp=12, depth=1, heads=2)),
}


def context_of(tmp_path: Path, name: str = "perceptron", size: int = 96) -> DerivationContext:
    """Return a context for one of the architectures, with a number of training images."""
    return derivation_context(ARCHITECTURES[name], toys.Blobs(toys.Blobs.Options(size=size)), tmp_path)


def symmetry_of(context: DerivationContext) -> Symmetry:
    """Return the symmetry of a context's network."""
    return derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]))


def members_of(context: DerivationContext, count: int) -> list[StateDict]:
    """Return weights of networks with different noise."""
    state = context.network().state_dict()
    found = []
    for member in range(count):
        with streams.seeded(streams.key("members", member)):
            found.append({name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in state.items()})
    return found


def aligned(context: DerivationContext, members: list[StateDict], **options: Any) -> tuple[list[StateDict], dict[str, Any]]:
    """Return aligned members and the facts."""
    alignment = ActivationMatching(ActivationMatching.Options(members=len(members), **options))
    states, facts = alignment.derive(members, context)
    return [dict(state) for state in states], dict(facts)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contract(name: str, tmp_path: Path) -> None:
    """Planted permutations are recovered exactly, functions stay, and the first member is not moved."""
    context = context_of(tmp_path, name)
    symmetry = symmetry_of(context)
    alignment = ActivationMatching()
    check_alignment(alignment, context, lambda state, seed: permute(symmetry, random_permutations(symmetry, seed), state))


@pytest.mark.parametrize("network", ["normalized attention", "token mixer"])
def test_groups_of_the_second_step(network: str, tmp_path: Path) -> None:
    """Units whose activations other groups permute are recovered after these, and images are read twice."""
    factory = {"token mixer": TokenMixer}.get(network) or FACTORIES[network]
    context = context_of(tmp_path, "resnet20")
    images = torch.randint(0, 256, (80, *SHAPE[1:]), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images, torch.zeros(80, dtype=torch.int64))
    context = replace(context, network=lambda: built(factory), normalize=lambda x: x / 64 - 2, train=split, test=split)
    symmetry = symmetry_of(context)
    state = context.network().state_dict()
    members = [state, *(permute(symmetry, random_permutations(symmetry, seed), state) for seed in (1, 2))]
    found, facts = aligned(context, members)
    assert all(torch.equal(member[name], state[name]) for member in found for name in state)
    assert facts["images"] == 160


class LowRank(nn.Module):
    """A linear layer whose weight is a product of two."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(6, 3))
        self.right = nn.Parameter(torch.randn(3, 16))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(nn.functional.linear(x.flatten(1), self.left @ self.right)))


def test_group_without_activations(tmp_path: Path) -> None:
    """The inner units of a product of two weights stand in no activation: they keep their order, and the facts name them."""
    context = replace(context_of(tmp_path), network=lambda: built(LowRank))
    state = context.network().state_dict()
    other = {
        "left": state["left"][[2, 0, 1, 5, 3, 4]].flip(1),
        "right": state["right"].flip(0),
        "head.bias": state["head.bias"],
    }
    other["head.weight"] = state["head.weight"][:, [2, 0, 1, 5, 3, 4]]
    (_, found), facts = aligned(context, [state, other])
    assert facts["groups_without_activations"] == ["left[1]"]
    assert torch.equal(found["left"], state["left"].flip(1))
    assert torch.equal(found["right"], other["right"])
    assert torch.equal(found["head.weight"], state["head.weight"])


def test_facts(tmp_path: Path) -> None:
    """They have the objective here and at the identity, what was solved and read, and where units stand."""
    _, facts = aligned(context_of(tmp_path), members_of(context_of(tmp_path), 3), images=50)
    assert facts["objective"] > facts["identity_objective"]
    assert facts["assignments"] >= 6
    assert (facts["images"], facts["gradient_steps"]) == (50, 0)
    assert facts["places"] == {"1.weight[0]": ["2 (aten.relu.default)"]}
    assert facts["groups_without_activations"] == []
    assert max(facts["function_differences"]) < 1e-12


def test_objective_of_the_result(tmp_path: Path) -> None:
    """Aligned members have the objective at the identity that the alignment reports, and are aligned already."""
    context = context_of(tmp_path)
    first, facts = aligned(context, members_of(context, 3))
    second, again = aligned(context, first)
    assert again["identity_objective"] == pytest.approx(facts["objective"], rel=1e-5)
    assert again["objective"] == again["identity_objective"]
    for before, after in zip(first, second, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("size", "images", "read"), [(96, None, 96), (96, 2, 2), (101, None, 100), (96, 96, 96), (20, None, 20)]
)
def test_images_that_are_read(size: int, images: int | None, read: int, tmp_path: Path) -> None:
    """Without the option, all images of a small set are read, in equal batches."""
    context = context_of(tmp_path, size=size)
    _, facts = aligned(context, members_of(context, 2), images=images)
    assert facts["images"] == read


@pytest.mark.parametrize(("images", "size"), [(5000, 25), (64, 32), (33, 32), (2, 2), (1437, 27), (4096, 32), (33 * 17, 17)])
def test_batch_size(images: int, size: int) -> None:
    """Equal batches leave out the fewest images, none where a size from 17 to 32 divides their number."""
    found = batch_size(images)
    assert found == size
    assert images % found == min(images % other for other in range(min(images, 17), min(images, 32) + 1))


def test_labels_and_test_images_are_not_read(tmp_path: Path) -> None:
    """Other labels and other test images give the same permutations."""
    context = context_of(tmp_path)
    members = members_of(context, 2)
    expected, _ = aligned(context, members)
    train = Split(context.train.images, torch.zeros_like(context.train.labels))
    test = Split(context.test.images.flip(0), context.test.labels)
    found, _ = aligned(replace(context, train=train, test=test), members)
    assert all(torch.equal(found[1][name], expected[1][name]) for name in found[1])


def test_residual_streams_that_stay(tmp_path: Path) -> None:
    """With `residual: identity` the stream keeps its order, other units move, and the objective is lower."""
    context = context_of(tmp_path, "vit")
    members = members_of(context, 2)
    (_, free), facts = aligned(context, members)
    (_, kept), kept_facts = aligned(context, members, residual="identity")
    stream = "head.weight"
    assert torch.equal(kept[stream], members[1][stream])
    assert not torch.equal(free[stream], members[1][stream])
    hidden = "blocks.0.linear1.bias"
    assert not torch.equal(kept[hidden], members[1][hidden])
    assert kept_facts["identity_objective"] == pytest.approx(facts["identity_objective"])
    assert kept_facts["identity_objective"] < kept_facts["objective"] < facts["objective"]


def test_uncentered_similarity(tmp_path: Path) -> None:
    """It is another objective, in the units of activations."""
    context = context_of(tmp_path)
    members = members_of(context, 2)
    _, pearson = aligned(context, members)
    _, uncentered = aligned(context, members, similarity="uncentered")
    assert pearson["objective"] <= 40
    assert uncentered["objective"] != pytest.approx(pearson["objective"], rel=0.01)


def test_one_member(tmp_path: Path) -> None:
    """It stays, and nothing is read."""
    context = context_of(tmp_path)
    members = members_of(context, 1)
    (state,), facts = aligned(context, members)
    assert all(torch.equal(state[name], members[0][name]) for name in state)
    assert (facts["objective"], facts["images"], facts["assignments"]) == (0.0, 0, 0)


@pytest.mark.parametrize(
    ("size", "images", "message"),
    [
        (96, 97, r"^activations: images is 97; the training set has 96: at most that, or leave it out$"),
        (1, None, r"^activations: correlations need at least 2 training images; the training set has 1$"),
    ],
)
def test_sets_that_are_too_small(size: int, images: int | None, message: str, tmp_path: Path) -> None:
    """The error says how many images there are."""
    context = context_of(tmp_path, size=size)
    with pytest.raises(TaskFailed, match=message):
        aligned(context, members_of(context, 2), images=images)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"images": 0}, r"activations\.images: 0 is out of range; an integer of at least 2"),
        ({"images": 1}, r"activations\.images: 1 is out of range"),
        ({"similarity": "cosine"}, r"activations\.similarity: unknown value 'cosine'; known: pearson, uncentered"),
        ({"residual": "none"}, r"activations\.residual: unknown value 'none'; known: identity, match"),
    ],
    ids=str,
)
def test_options_that_are_refused(option: dict[str, Any], message: str, graph_of: Callable[..., Graph]) -> None:
    """They are found before anything runs."""
    with pytest.raises(BenchmarkError, match=message):
        graph_of(methods=[{"aligned": {"by": {"activations": option}}}])


def test_member_that_has_diverged(tmp_path: Path) -> None:
    """The error names the place and the member whose activations overflow."""
    context = context_of(tmp_path, "resnet20")
    members = members_of(context, 3)
    members[2]["groups.1.0.norm1.weight"].fill_(3e38)
    message = r"^activations: groups\.1\.0\.norm1 \(aten\.native_layer_norm\.default\): activations of member 2 are infinite; "
    with pytest.raises(TaskFailed, match=message):
        aligned(context, members)


def test_run_in_a_benchmark(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """The method `aligned` keeps every member's predictions, and its members differ with the options."""
    grid = {"by": ["activations", {"activations": {"images": 32, "similarity": "uncentered"}}]}
    catalogue = toys.catalogue()
    graph = graph_of(methods=["deep", {"aligned": {"grid": grid}}], members=3, catalogue=catalogue)
    lab.run(graph, catalogue)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1
    assert {"aligned@1+activation_matching@1+deep@1"} < set(rows["method_version"])
