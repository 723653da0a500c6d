"""Permutation coordinate descent of a pair, against planted permutations, exhaustive search and git-re-basin's algorithm."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from basin.matching.toy_networks import FACTORIES, SHAPE, built, convolutional, perceptron
from harness import TaskFailed, streams
from harness_basin.matching import (
    Matching,
    Mismatch,
    Symmetry,
    derive_symmetry,
    match,
    permute,
    random_permutations,
)
from harness_basin.matching.coordinate_descent.descent import Precision
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

StateDict = dict[str, torch.Tensor]

WIDE: dict[str, Callable[[], nn.Module]] = {
    **FACTORIES,
    "wide perceptron": lambda: perceptron(192, 200, 100, 5),
    "wide convolutional": lambda: convolutional(32),
    "resnet20": lambda: ResNet20Network(16, (3, 8, 8), 10),
    "vit": lambda: ViTNetwork((3, 8, 8), 10, patch=4, width=64, mlp=80, depth=2, heads=4, dropout=0.2, attention_dropout=0.1),
}


def symmetry_and_weights(factory: Callable[[], nn.Module], members: int = 2) -> tuple[Symmetry, list[StateDict]]:
    """Return a network's symmetry and the weights of independent members."""
    networks = [built(factory, seed) for seed in range(members)]
    return derive_symmetry(networks[0], torch.randn(SHAPE)), [network.state_dict() for network in networks]


def inner_product(symmetry: Symmetry, a: StateDict, b: StateDict) -> float:
    """Return ⟨θ_a, θ_b⟩ over the parameters that permutations move."""
    names = {block.parameter for block in symmetry.blocks if block.counts}
    return sum(float((a[name].double() * b[name].double()).sum()) for name in names)


@pytest.mark.parametrize("name", WIDE)
def test_planted_permutation_is_recovered(name: str) -> None:
    """A network matched to a permuted copy of itself becomes that copy, for every order of visits."""
    symmetry, (state,) = symmetry_and_weights(WIDE[name], members=1)
    planted = permute(symmetry, random_permutations(symmetry, 5), state)
    for stream in range(2):
        found = match(symmetry, planted, state, stream=stream)
        recovered = permute(symmetry, found.permutations, state)
        assert all(torch.equal(recovered[key], planted[key]) for key in state)


@pytest.mark.parametrize("name", WIDE)
def test_objective_never_falls(name: str) -> None:
    """The objective does not fall in any sweep; its last value is the inner product of the permuted weights."""
    symmetry, (a, b) = symmetry_and_weights(WIDE[name])
    found = match(symmetry, a, b, stream=3)
    (trace,) = found.trace
    assert all(after >= before for before, after in itertools.pairwise(trace))
    assert trace[0] == pytest.approx(inner_product(symmetry, a, b), rel=1e-10, abs=1e-9)
    assert trace[-1] == found.objective
    assert found.objective == pytest.approx(inner_product(symmetry, a, permute(symmetry, found.permutations, b)), rel=1e-12)
    assert found.objective > trace[0]


@pytest.mark.parametrize("name", ["perceptron", "transformer", "grouped"])
def test_result_is_a_fixed_point(name: str) -> None:
    """A descent that starts at the result improves nothing, for every order of visits."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES[name])
    found = match(symmetry, a, b, stream=0)
    for stream in range(3):
        again = match(symmetry, a, b, stream=stream, start=found.permutations)
        assert again.objective == pytest.approx(found.objective, rel=1e-12)
        assert again.sweeps == 1


def test_restarts_of_tiny_networks() -> None:
    """The result is the best of all 24 × 24 permutations of two hidden layers."""
    for seed in range(3):
        networks = [built(lambda: perceptron(192, 4, 4, 3), 10 * seed + i) for i in range(2)]
        for network in networks:
            network[1].weight.data *= 0.02  # otherwise the first layer dominates
        symmetry = derive_symmetry(networks[0], torch.randn(SHAPE))
        a, b = (network.state_dict() for network in networks)
        orders = [torch.tensor(p) for p in itertools.permutations(range(4))]
        best = max(inner_product(symmetry, a, permute(symmetry, pair, b)) for pair in itertools.product(orders, orders))
        assert match(symmetry, a, b, stream=0, restarts=20).objective == pytest.approx(best, rel=1e-12)


def test_heads_and_the_dimensions_within_them() -> None:
    """The heads' permutation is the best of all 6, each with the best permutations of dimensions."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["torch transformer"])
    found = match(symmetry, a, b, stream=0)

    def head(state: StateDict, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a head's query, key and value rows with biases (3, dimensions, inputs + 1), and its output columns."""
        rows = state["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4)).double()
        biases = state["layer.self_attn.in_proj_bias"].unflatten(0, (3, 3, 4)).double()
        columns = state["layer.self_attn.out_proj.weight"].unflatten(1, (3, 4)).permute(1, 2, 0).double()
        return torch.cat([rows[:, i], biases[:, i, :, None]], -1), columns[i]

    def gain(order: Sequence[int]) -> float:
        """Return the gain of a permutation of heads with the best permutations of their dimensions."""
        total = 0.0
        for position, unit in enumerate(order):
            rows_a, columns_a = head(a, position)
            rows_b, columns_b = head(b, unit)
            query_key = rows_a[0] @ rows_b[0].T + rows_a[1] @ rows_b[1].T
            value_output = rows_a[2] @ rows_b[2].T + columns_a @ columns_b.T
            for gains in (query_key.numpy(), value_output.numpy()):
                total += gains[linear_sum_assignment(gains, maximize=True)].sum()
        return total

    best = max(itertools.permutations(range(3)), key=gain)
    assert found.permutations[0].tolist() == list(best)


def test_several_descents() -> None:
    """The first descent equals a single one, and the best result is returned."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["convolutional"])
    one = match(symmetry, a, b, stream=0)
    many = match(symmetry, a, b, stream=0, restarts=5)
    assert many.trace[0] == one.trace[0]
    assert len(many.trace) == 5
    assert many.objective == max(trace[-1] for trace in many.trace)
    assert many.sweeps == sum(len(trace) - 1 for trace in many.trace)


def test_maximum_number_of_sweeps() -> None:
    """The descent stops after that number."""
    symmetry, (a, b) = symmetry_and_weights(WIDE["wide convolutional"])
    assert match(symmetry, a, b, stream=0).sweeps > 1
    assert match(symmetry, a, b, stream=0, max_sweeps=1).sweeps == 1


def test_random_stream_of_a_descent() -> None:
    """The result depends on the stream alone; the global random generator is neither used nor changed."""
    symmetry, (a, b) = symmetry_and_weights(WIDE["wide convolutional"])
    torch.manual_seed(0)
    first = match(symmetry, a, b, stream=0, restarts=3)
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    second = match(symmetry, a, b, stream=0, restarts=3)
    assert torch.equal(torch.get_rng_state(), generator)
    assert first.trace == second.trace
    assert all(torch.equal(x, y) for x, y in zip(first.permutations, second.permutations))
    assert match(symmetry, a, b, stream=1, restarts=3).trace != first.trace


@pytest.mark.parametrize("name", ["perceptron", "wide convolutional", "resnet20"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_against_plain_weight_matching(name: str, precision: Precision) -> None:
    """A plain version of git-re-basin's algorithm finds the same permutations in the same number of sweeps."""
    symmetry, (a, b) = symmetry_and_weights(WIDE[name])
    for stream in range(2):
        found = match(symmetry, a, b, stream=stream, precision=precision)
        plain, sweeps = weight_matching(symmetry, a, b, streams.key("descent", stream, 0))
        assert all(np.array_equal(p, q) for p, q in zip(found.permutations, plain))
        assert found.sweeps == sweeps


def weight_matching(symmetry: Symmetry, a: StateDict, b: StateDict, stream: int) -> tuple[list[np.ndarray], int]:
    """Run git-re-basin's weight matching without shortcuts: every visit permutes and multiplies all weights.

    Return the permutations and the number of sweeps.
    """
    places = []
    for g in range(len(symmetry.groups)):
        places.append([(name, axis) for name, axis in symmetry.places(g) if "running" not in name])
    permutations = [np.arange(group.size) for group in symmetry.groups]
    weights_a = {name: tensor.double().numpy() for name, tensor in a.items()}
    weights_b = {name: tensor.double().numpy() for name, tensor in b.items()}

    def unit_rows(weight: np.ndarray, axis: int, size: int) -> np.ndarray:
        inner = weight.shape[axis] // size  # a flattened axis is channels × pixels
        split = weight.reshape(*weight.shape[:axis], size, inner, *weight.shape[axis + 1 :])
        return np.moveaxis(split, axis, 0).reshape(size, -1)

    def permuted(name: str, skip: int) -> np.ndarray:
        weight = weights_b[name]
        for g, group in enumerate(symmetry.groups):
            for axis in [k for n, k in places[g] if n == name and g != skip]:
                inner = weight.shape[axis] // group.size
                order = (permutations[g][:, None] * inner + np.arange(inner)).ravel()
                weight = np.take(weight, order, axis)
        return weight

    for sweep in range(100):
        progress = False
        for g in streams.permutation(streams.key("sweep", stream, sweep), len(permutations)).tolist():
            size = symmetry.groups[g].size
            gram = np.zeros((size, size))
            for name, axis in places[g]:
                gram += unit_rows(weights_a[name], axis, size) @ unit_rows(permuted(name, g), axis, size).T
            before = gram[np.arange(size), permutations[g]].sum()
            permutations[g] = linear_sum_assignment(gram, maximize=True)[1]
            progress |= bool(gram[np.arange(size), permutations[g]].sum() > before + 1e-12)
        if not progress:
            return permutations, sweep + 1
    return permutations, 100


def test_single_precision() -> None:
    """The objective equals that of double precision to six digits."""
    symmetry, (a, b) = symmetry_and_weights(WIDE["vit"])
    double = match(symmetry, a, b, stream=0, precision="float64")
    single = match(symmetry, a, b, stream=0, precision="float32")
    assert single.objective == pytest.approx(double.objective, rel=1e-6)


def test_against_rebasin() -> None:
    """The objective is at least that of the package `rebasin`, which does not permute residual streams."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebasin = pytest.importorskip("rebasin")
        networks = [built(WIDE["resnet20"], seed) for seed in range(2)]
        symmetry = derive_symmetry(networks[0], torch.randn(SHAPE))
        theirs = copy.deepcopy(networks[1])
        rebasin.PermutationCoordinateDescent(networks[0], theirs, torch.randn(SHAPE)).rebasin()
    a, b = (network.state_dict() for network in networks)
    assert match(symmetry, a, b, stream=0).objective >= inner_product(symmetry, a, theirs.state_dict())


def test_members_of_different_networks() -> None:
    """The error names the network and the parameter that does not match."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["perceptron"])
    with pytest.raises(Mismatch, match=r"^other: parameter '1\.weight' has shape \(7, 192\), the network's has \(20, 192\)$"):
        match(symmetry, a, b | {"1.weight": torch.zeros(7, 192)}, stream=0)
    with pytest.raises(Mismatch, match=r"^reference: parameter '1\.bias' is missing; members must be"):
        match(symmetry, {name: t for name, t in a.items() if name != "1.bias"}, b, stream=0)


def test_diverged_member() -> None:
    """Weights that are NaN fail the task, not the run."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["perceptron"])
    with pytest.raises(TaskFailed, match=r"^matching: an inner product of the weights is nan; have the members diverged\?$"):
        match(symmetry, a, b | {"1.bias": torch.full((20,), torch.nan)}, stream=0)


def test_network_without_hidden_units() -> None:
    """There are no permutations, and the objective is 0."""
    symmetry, (a, b) = symmetry_and_weights(lambda: perceptron(192, 5))
    assert match(symmetry, a, b, stream=0, restarts=2) == Matching((), 0.0, ((0.0, 0.0),) * 2)


@pytest.mark.parametrize("name", ["perceptron", "grouped", "transformer"])
def test_weights_whose_products_overflow(name: str) -> None:
    """The message is the same wherever the infinite product is: also between units that are not assigned to each other."""
    network = built(FACTORIES[name], 0)
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = network.state_dict()
    counted = {block.parameter for block in symmetry.blocks if block.counts}
    expected = r"^matching: an inner product of the weights is (inf|-inf|nan); have the members diverged\?$"
    for parameter, scale in itertools.product(sorted(counted), (1e25, -1e25)):
        huge = {key: tensor.clone() for key, tensor in state.items()}
        huge[parameter].view(-1)[0] = scale
        huge[parameter].view(-1)[-1] = 1e25
        with pytest.raises(TaskFailed, match=expected):
            match(symmetry, huge, huge, stream=0, precision="float32")
