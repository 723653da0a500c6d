"""Compare permutation coordinate descent of a pair of ResNet20 (width 4) with git-re-basin's and with the package `rebasin`.

`rebasin` does not permute the residual streams, so it has fewer coordinates and needs fewer sweeps. Our objective after the
first sweep is higher than its final one. docs/performance.md has the results.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from side_process import SideProcess
from sklearn.datasets import load_digits
from torch import nn

from harness import streams
from harness.execution.engines.worker_process import worker_environment
from harness_basin.matching import Symmetry, derive_symmetry, match, permute
from harness_basin.matching.coordinate_descent.descent import Precision
from harness_vision.resnet20_network import LayerNorm2d, ResNet20Network

StateDict = dict[str, torch.Tensor]
STREAM = 1
ROUNDS = 9
EXAMPLE = torch.zeros(1, 3, 8, 8)


def trained(seed: int) -> ResNet20Network:
    """Return a network after 60 training steps on 8×8 images of digits.

    Matching two of these takes as many sweeps as matching fully trained networks.
    """
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16)[:, None].expand(-1, 3, -1, -1)
    labels = torch.from_numpy(digits.target)
    with streams.seeded(streams.key("perf", seed)):
        network = ResNet20Network(64, (3, 8, 8), 10)
        optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
        for _ in range(60):
            batch = torch.randint(len(labels), (64,))
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


class ExplicitLayerNorm(nn.Module):
    """LayerNorm over channels written as elementary operations, as in REPAIR's network; `rebasin` permutes more of it."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.weight = norm.weight
        self.bias = norm.bias
        self.relu = norm.relu

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / x.std(1, keepdim=True, unbiased=False)
        x = x * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)
        if residual is not None:
            x = x + residual
        return F.relu(x) if self.relu else x


def with_explicit_norms(network: nn.Module) -> nn.Module:
    """Return a copy of a network with `ExplicitLayerNorm` modules; the names of the parameters stay the same."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LayerNorm2d):
                setattr(module, name, ExplicitLayerNorm(child))
    return network


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> str:
    """The path of a file with two trained networks."""
    file = tmp_path_factory.mktemp("pair") / "pair.pt"
    torch.save([trained(0), trained(1)], file)
    return str(file)


def read_pair(file: str) -> tuple[Symmetry, ResNet20Network, ResNet20Network]:
    """Return the permutation symmetry of two networks, and the networks."""
    a, b = torch.load(file, weights_only=False)
    return derive_symmetry(a, EXAMPLE), a, b


def git_re_basin(
    groups: Sequence[Sequence[tuple[str, int]]],
    a: StateDict,
    b: StateDict,
    stream: int,
    start: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Return permutations of b's units by the published weight matching (Ainsworth et al. 2023, algorithm 1).

    A group is a list of axes, as (parameter, axis). Every visit permutes the float64 weights again and multiplies them. The
    descent begins at `start`, by default at the identity.
    """
    weights_a = {name: tensor.numpy().astype(np.float64) for name, tensor in a.items()}
    weights_b = {name: tensor.numpy().astype(np.float64) for name, tensor in b.items()}
    permutations: list[np.ndarray] = []
    group_of: dict[tuple[str, int], int] = {}
    for g, group in enumerate(groups):
        name, axis = group[0]
        permutations.append(np.arange(weights_a[name].shape[axis]) if start is None else start[g].copy())
        for place in group:
            group_of[place] = g
    for sweep in range(100):
        progress = False
        for g in streams.permutation(streams.key("sweep", stream, sweep), len(groups)).tolist():
            n = len(permutations[g])
            gram = np.zeros((n, n))
            for name, axis in groups[g]:
                w = weights_b[name]
                for other in range(w.ndim):
                    if other != axis and (name, other) in group_of:
                        w = np.take(w, permutations[group_of[name, other]], axis=other)
                rows_a = np.moveaxis(weights_a[name], axis, 0).reshape(n, -1)
                rows_b = np.moveaxis(w, axis, 0).reshape(n, -1)
                gram += rows_a @ rows_b.T
            before = gram[np.arange(n), permutations[g]].sum()
            permutations[g] = linear_sum_assignment(gram, maximize=True)[1]
            after = gram[np.arange(n), permutations[g]].sum()
            progress |= bool(after > before + 1e-12)
        if not progress:
            break
    return permutations


def our_permutations(file: str, precision: Precision) -> Callable[[], Sequence[torch.Tensor]]:
    """Return a function that computes our permutations of the second network's units."""
    symmetry, a, b = read_pair(file)
    state_a, state_b = a.state_dict(), b.state_dict()
    return lambda: match(symmetry, state_a, state_b, stream=STREAM, precision=precision).permutations


def their_permutations(file: str) -> Callable[[], Sequence[torch.Tensor]]:
    """Return a function that computes git-re-basin's permutations of the second network's units."""
    symmetry, a, b = read_pair(file)
    state_a, state_b = a.state_dict(), b.state_dict()
    groups = [symmetry.places(g) for g in range(len(symmetry.groups))]
    key = streams.key("descent", STREAM, 0)
    return lambda: [torch.from_numpy(p) for p in git_re_basin(groups, state_a, state_b, key)]


def our_alignment(file: str, precision: Precision, sweeps: int) -> Callable[[], StateDict]:
    """Return a function that computes our aligned weights of the second network."""
    symmetry, a, b = read_pair(file)
    state_a, state_b = a.state_dict(), b.state_dict()

    def align() -> StateDict:
        found = match(symmetry, state_a, state_b, stream=STREAM, precision=precision, max_sweeps=sweeps)
        return permute(symmetry, found.permutations, state_b)

    return align


def rebasin_alignment(file: str) -> Callable[[], StateDict]:
    """Return a function that computes `rebasin`'s aligned weights of the second network.

    The networks for all calls (3 of warm-up, `ROUNDS` measured) are prepared here, since a descent changes its networks.
    """
    import rebasin

    warnings.simplefilter("ignore")
    _, a, b = read_pair(file)
    a, b = with_explicit_norms(a), with_explicit_norms(b)
    descents = [rebasin.PermutationCoordinateDescent(a, copy.deepcopy(b), EXAMPLE) for _ in range(3 + ROUNDS)]

    def align() -> StateDict:
        descent = descents.pop()
        descent.rebasin()
        return descent.model_b.state_dict()

    return align


def compare_processes(compare, bar: float, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Compare two functions of this module, given as factory name and arguments; ours runs as in a worker process."""
    our_side = SideProcess("test_matching", *ours, environment=worker_environment(1))
    their_side = SideProcess("test_matching", *theirs)
    with contextlib.closing(our_side), contextlib.closing(their_side):
        compare(our_side, their_side, bar=bar, rounds=ROUNDS)


@pytest.mark.parametrize(("precision", "bar"), [("float64", 1.5), ("float32", 3.0)])
def test_against_git_re_basins_way(compare, pair, precision: Precision, bar: float) -> None:
    """Both find the same permutations; ours is faster by the factor `bar`."""
    ours = our_permutations(pair, precision)()
    theirs = their_permutations(pair)()
    assert all(map(torch.equal, ours, theirs))
    compare_processes(compare, bar, ["our_permutations", pair, precision], ["their_permutations", pair])


@pytest.mark.parametrize(("precision", "sweeps", "bar"), [("float64", 100, 1.3), ("float32", 100, 2.3), ("float32", 1, 6.0)])
def test_against_rebasin(compare, pair, precision: Precision, sweeps: int, bar: float) -> None:
    """Our objective is higher, at the end and after the first sweep, because ours permutes the residual streams too.

    The analysis of the network (`derive_symmetry`, and the constructor of `rebasin`'s descent) is not timed on either side.
    """
    pytest.importorskip("rebasin")
    _, reference, _ = read_pair(pair)
    ours = objective(reference.state_dict(), our_alignment(pair, precision, sweeps)())
    theirs = objective(reference.state_dict(), rebasin_alignment(pair)())
    assert ours > theirs
    compare_processes(compare, bar, ["our_alignment", pair, precision, sweeps], ["rebasin_alignment", pair])


def objective(a: StateDict, b: StateDict) -> float:
    """Return ⟨θ_a, θ_b⟩, the inner product of the weights."""
    return sum(float((a[name] * b[name]).sum()) for name in a)
