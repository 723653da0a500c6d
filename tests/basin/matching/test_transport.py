"""Linear maps in order, and greedy optimal transport against exact transport plans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment, linprog
from torch import Tensor, nn

from basin.matching.test_descent import WIDE
from basin.matching.toy_networks import FACTORIES, SHAPE, built, perceptron
from harness import StateDict, TaskFailed
from harness_basin.matching import Symmetry, derive_symmetry, identity, permute, random_permutations
from harness_basin.matching.optimal_transport.incoming_weights import write_order
from harness_basin.matching.optimal_transport.linear_maps import LinearMap, linear_maps
from harness_basin.matching.optimal_transport.transport import Transport, transport


def prepared(factory: Callable[[], nn.Module], members: int = 2) -> tuple[Symmetry, tuple[LinearMap, ...], list[StateDict]]:
    """Return a network's symmetry, its linear maps, and the weights of independent members."""
    networks = [built(factory, seed) for seed in range(members)]
    example = torch.randn(SHAPE)
    maps = linear_maps(networks[0], example)
    return derive_symmetry(networks[0], example), maps, [network.state_dict() for network in networks]


def exact_plan(cost: np.ndarray) -> np.ndarray:
    """Return the plan (n, n) of least cost with marginals 1/n, by linear programming."""
    n = len(cost)
    constraints = np.concatenate([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
    solved = linprog(cost.ravel(), A_eq=constraints, b_eq=np.full(2 * n, 1 / n), method="highs")
    return solved.x.reshape(n, n)


def euclidean(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the distances of the rows of two matrices of any number of columns, float64."""
    a, b = a.flatten(1).double().numpy(), b.flatten(1).double().numpy()
    return np.sqrt(np.square(a[:, None] - b[None]).sum(-1))


class Reused(nn.Module):
    """Units that are written by a transposed convolution, a standardized weight, and a product with the weight on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.transposed = nn.ConvTranspose2d(3, 6, 2, 2)
        self.standardized = nn.Parameter(torch.randn(7, 6, 1, 1))
        self.left = nn.Parameter(torch.randn(9, 7))
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.transposed(x))
        weight = (self.standardized - self.standardized.mean((1, 2, 3), keepdim=True)) * 2
        x = F.conv2d(x, weight).relu().mean((2, 3))
        return self.head((self.left @ x.T).relu().T)


def roles(symmetry: Symmetry, maps: tuple[LinearMap, ...], parameter: str) -> list[str]:
    """Return what the linear maps do along each permuted factor of a parameter."""
    found = []
    for linear_map in maps:
        for block in symmetry.blocks:
            if block.parameter == parameter and linear_map.uses(block):
                found += [linear_map.role(factor) for factor in block.factors if factor.group is not None]
    return found


def test_roles_of_axes() -> None:
    """Transposed convolutions write along their second axis; copies of parameters and products from the left are recognized."""
    symmetry, maps, _ = prepared(Reused)
    assert [linear_map.parameter for linear_map in maps] == ["transposed.weight", "standardized", "left", "head.weight"]
    assert roles(symmetry, maps, "transposed.weight") == ["written"]
    assert roles(symmetry, maps, "standardized") == ["written", "read"]
    assert roles(symmetry, maps, "left") == ["written", "read"]
    assert roles(symmetry, maps, "head.weight") == ["read"]


def test_roles_in_grouped_convolutions_and_batched_products() -> None:
    """The groups of channels, and the batch of a product, are shared: the map neither reads nor writes them."""
    symmetry, maps, _ = prepared(FACTORIES["grouped"])
    assert roles(symmetry, maps, "1.grouped.weight") == ["shared", "written", "read"]
    assert set(roles(symmetry, maps, "1.depthwise.weight")) == {"shared"}
    symmetry, maps, _ = prepared(FACTORIES["experts"])
    assert roles(symmetry, maps, "experts") == ["shared", "read", "written"]
    assert roles(symmetry, maps, "inputs.weight") == ["written", "written"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("perceptron", ["1.weight[0]", "3.weight[0]"]),
        (
            "resnet20",
            ["conv1", "groups.0.0.conv1", "groups.0.1.conv1", "groups.0.2.conv1", "groups.1.0.conv1", "groups.1.0.conv2"],
        ),
    ],
)
def test_order_of_groups(name: str, expected: list[str]) -> None:
    """Groups come in the order in which the network writes them: a block's inner units before the stream that it begins."""
    symmetry, maps, _ = prepared(WIDE[name], members=1)
    order = write_order(symmetry, maps)
    assert sorted(order) == list(range(len(symmetry.groups)))
    names = [symmetry.groups[group].name for group in order]
    assert [found[: len(prefix)] for found, prefix in zip(names, expected)] == expected


@pytest.mark.parametrize("normalized", [False, True])
def test_exact_transport_is_the_assignment(normalized: bool) -> None:
    """Per layer, n times the exact plan of the distances is 0 or 1, and is the permutation that was found."""
    symmetry, maps, (a, b) = prepared(lambda: perceptron(192, 9, 8, 7, 5))
    found = transport(symmetry, maps, a, b, normalized=normalized)
    transported = permute(symmetry, identity(symmetry), b)
    total = 0.0
    for layer, group in zip((1, 3, 5), write_order(symmetry, maps), strict=True):
        rows = [state[f"{layer}.weight"].double() for state in (a, transported)]
        if normalized:
            rows = [weight / weight.norm(dim=1, keepdim=True) for weight in rows]
        cost = euclidean(*rows)
        n = len(cost)
        plan = n * exact_plan(cost)
        assert np.abs(plan - plan.round()).max() < 1e-9
        order = linear_sum_assignment(cost)[1]
        assert np.array_equal(plan.round().argmax(1), order)
        assert np.array_equal(found.permutations[group], order)
        total += cost[np.arange(n), order].sum()
        transported[f"{layer + 2}.weight"] = transported[f"{layer + 2}.weight"][:, order]  # the correction of the next layer
    assert found.cost == pytest.approx(total, rel=1e-9)
    assert found.assignments == 3


def test_cost_of_a_stream_that_two_branches_write() -> None:
    """Writers whose input is matched count: in stage 2 the first block's second convolution and its shortcut, nothing later."""
    symmetry, maps, (a, b) = prepared(WIDE["resnet20"])
    found = transport(symmetry, maps, a, b)
    moved = permute(symmetry, found.permutations, b)
    (stream,) = [g for g, group in enumerate(symmetry.groups) if group.name == "groups.1.0.conv2.weight[0]"]
    writers = [m.parameter for m in maps if m.parameter.startswith("groups.1.0.") and "conv1" not in m.parameter]
    assert len(writers) == 2
    inverse = torch.argsort(found.permutations[stream])
    cost = sum(euclidean(a[name], moved[name][inverse]) for name in writers)  # inputs as transported, outputs as given
    assert np.array_equal(linear_sum_assignment(cost)[1], found.permutations[stream])


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("options", [{}, {"normalized": True}, {"vectors": True}], ids=str)
def test_planted_permutation_is_recovered(name: str, options: dict[str, bool]) -> None:
    """A network matched to a permuted copy of itself becomes that copy, at cost 0."""
    symmetry, maps, (state,) = prepared(WIDE[name], members=1)
    planted = permute(symmetry, random_permutations(symmetry, 5), state)
    found = transport(symmetry, maps, planted, state, **options)
    recovered = permute(symmetry, found.permutations, state)
    assert all(torch.equal(recovered[key], planted[key]) for key in state)
    assert found.cost == pytest.approx(0, abs=1e-9)
    assert found.identity_cost > 1


@pytest.mark.parametrize("name", ["perceptron", "transformer", "grouped", "experts"])
def test_relabelled_weights(name: str) -> None:
    """The moved weights do not depend on the order in which the units of either network are numbered."""
    symmetry, maps, (a, b) = prepared(FACTORIES[name])
    moved = permute(symmetry, transport(symmetry, maps, a, b).permutations, b)
    other = permute(symmetry, random_permutations(symmetry, 7), b)
    relabelled = permute(symmetry, transport(symmetry, maps, a, other).permutations, other)
    assert all(torch.equal(moved[key], relabelled[key]) for key in moved)
    both = random_permutations(symmetry, 8)
    reference = permute(symmetry, both, a)
    found = permute(symmetry, transport(symmetry, maps, reference, b).permutations, b)
    expected = permute(symmetry, both, moved)
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_planted_permutation_with_noise() -> None:
    """The share of units that are recovered falls as noise grows, from all of them to few."""
    symmetry, maps, (a,) = prepared(lambda: perceptron(192, 60, 60, 5), members=1)
    planted = random_permutations(symmetry, 5)
    generator = torch.Generator().manual_seed(0)
    shares = []
    for scale in (0.0, 0.3, 1.0, 3.0, 30.0):
        reference = {}
        for key, tensor in a.items():
            reference[key] = tensor + scale * tensor.std() * torch.randn(tensor.shape, generator=generator)
        found = transport(symmetry, maps, permute(symmetry, planted, reference), a)
        right = [(p == q).double().mean() for p, q in zip(found.permutations, planted, strict=True)]
        shares.append(float(torch.stack(right).mean()))
    assert shares[0] == shares[1] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.3


def test_units_that_differ_in_their_biases_alone() -> None:
    """They are told apart with `vectors` only."""
    symmetry, maps, (state,) = prepared(FACTORIES["perceptron"], members=1)
    state["1.weight"] = state["1.weight"][:1].expand(20, -1).clone()
    planted = permute(symmetry, random_permutations(symmetry, 5), state)
    for vectors in (False, True):
        found = transport(symmetry, maps, planted, state, vectors=vectors)
        recovered = permute(symmetry, found.permutations, state)
        assert torch.equal(recovered["1.bias"], planted["1.bias"]) == vectors


@pytest.mark.parametrize("name", ["perceptron", "torch transformer", "grouped", "experts"])
def test_soft_transport_with_little_entropy(name: str) -> None:
    """With little entropy soft maps are the permutations, and with much they mix all units alike."""
    symmetry, maps, (a,) = prepared(FACTORIES[name], members=1)
    b = permute(symmetry, random_permutations(symmetry, 6), a)
    hard = transport(symmetry, maps, a, b)
    assert hard.maps is None
    sharp = transport(symmetry, maps, a, b, regularization=1e-3)
    flat = transport(symmetry, maps, a, b, regularization=1e6)
    assert sharp.maps is not None
    assert flat.maps is not None
    for permutation, sharp_map, flat_map in zip(hard.permutations, sharp.maps, flat.maps, strict=True):
        size = permutation.shape[-1]
        torch.testing.assert_close(sharp_map, F.one_hot(permutation, size).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(flat_map, torch.full_like(flat_map, 1 / size), atol=1e-4, rtol=0)
    assert hard.cost == pytest.approx(0, abs=1e-9)
    assert 0 <= sharp.cost < 1e-3 * flat.cost


@pytest.mark.parametrize("name", ["perceptron", "torch transformer", "grouped", "experts"])
def test_cost_of_soft_plans_between_unlike_networks(name: str) -> None:
    """It becomes the exact plan's as the entropy vanishes, and is another one with much entropy."""
    symmetry, maps, (a, b) = prepared(FACTORIES[name])
    hard = transport(symmetry, maps, a, b)
    costs = [transport(symmetry, maps, a, b, regularization=factor).cost for factor in (1e-4, 1e6)]
    assert costs[0] == pytest.approx(hard.cost, rel=1e-3)
    assert abs(costs[1] - hard.cost) > 0.01 * hard.cost


def test_soft_plan_of_a_layer() -> None:
    """The plan is exp(−cost/ε) scaled to sums of 1, as Sinkhorn's iteration makes it."""
    symmetry, maps, (a, b) = prepared(lambda: perceptron(192, 9, 5))
    found = transport(symmetry, maps, a, b, regularization=0.5)
    kernel = np.exp(-euclidean(a["1.weight"], b["1.weight"]) / 0.5)
    for _ in range(2000):
        kernel /= kernel.sum(1, keepdims=True)
        kernel /= kernel.sum(0, keepdims=True)
    assert found.maps is not None
    np.testing.assert_allclose(found.maps[0].numpy(), kernel, atol=1e-6)
    assert found.cost == pytest.approx((kernel * euclidean(a["1.weight"], b["1.weight"])).sum(), rel=1e-6)
    assert found.cost > transport(symmetry, maps, a, b).cost


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_diverged_member(value: float) -> None:
    """Weights that are not finite fail the task."""
    symmetry, maps, (a, b) = prepared(FACTORIES["perceptron"])
    with pytest.raises(TaskFailed, match=r"^ot: a distance between rows of '3\.weight' is not finite; have the members div"):
        transport(symmetry, maps, a, b | {"3.weight": torch.full((16, 20), value)})


def test_network_without_hidden_units() -> None:
    """There is nothing to match."""
    symmetry, maps, (a, b) = prepared(lambda: perceptron(192, 5))
    assert transport(symmetry, maps, a, b) == Transport((), None, 0.0, 0.0, 0)
