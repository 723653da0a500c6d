"""Permutation coordinate descent of a pair of ResNet20 (width 4), against git-re-basin's way and against the package `rebasin`.

`rebasin` leaves the residual streams alone, so it has fewer coordinates and needs fewer sweeps; our first sweep is past
the objective at which it ends. docs/performance.md has what was measured.
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
from apart import Apart
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import nn

from harness import streams
from harness.execution.engines.worker_process import worker_environment
from harness_basin.matching import Symmetry, derive_symmetry, match, permute
from harness_basin.matching.descent import Precision
from harness_vision.resnet20_network import LayerNorm2d, ResNet20Network

StateDict = dict[str, torch.Tensor]
STREAM, ROUNDS = 1, 9
EXAMPLE = torch.zeros(1, 3, 8, 8)


def trained(seed: int) -> ResNet20Network:
    """Return a network after 60 steps on small images of digits: matching such takes as many sweeps as matching real ones."""
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


class WrittenOut(nn.Module):
    """LayerNorm over channels as REPAIR's network has it: in this form `rebasin` finds more to permute."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / x.std(1, keepdim=True, unbiased=False)
        return x * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


def written_out(network: nn.Module) -> nn.Module:
    """Return a copy with its normalization written out; the parameters keep their names."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LayerNorm2d):
                setattr(module, name, WrittenOut(child))
    return network


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> str:
    """A file with two networks."""
    file = tmp_path_factory.mktemp("pair") / "pair.pt"
    torch.save([trained(0), trained(1)], file)
    return str(file)


def read(file: str) -> tuple[Symmetry, ResNet20Network, ResNet20Network]:
    """Return two networks and their symmetry."""
    a, b = torch.load(file, weights_only=False)
    return derive_symmetry(a, EXAMPLE), a, b


def git_re_basin(places: Sequence[Sequence[tuple[str, int]]], a: StateDict, b: StateDict, stream: int) -> list[np.ndarray]:
    """Weight matching as it is published: every visit permutes the float64 weights anew and multiplies them."""
    weights_a, weights_b = ({name: tensor.numpy().astype(np.float64) for name, tensor in state.items()} for state in (a, b))
    permutations = [np.arange(weights_a[place[0][0]].shape[place[0][1]]) for place in places]
    group_of = {place: g for g, group in enumerate(places) for place in group}
    for sweep in range(100):
        progress = False
        for g in streams.permutation(streams.key("sweep", stream, sweep), len(places)).tolist():
            n = len(permutations[g])
            gram = np.zeros((n, n))
            for name, axis in places[g]:
                w = weights_b[name]
                for other in range(w.ndim):
                    if other != axis and (name, other) in group_of:
                        w = np.take(w, permutations[group_of[name, other]], axis=other)
                rows = [np.moveaxis(x, axis, 0).reshape(n, -1) for x in (weights_a[name], w)]
                gram += rows[0] @ rows[1].T
            before = gram[np.arange(n), permutations[g]].sum()
            permutations[g] = linear_sum_assignment(gram, maximize=True)[1]
            progress |= bool(gram[np.arange(n), permutations[g]].sum() > before + 1e-12)
        if not progress:
            break
    return permutations


def our_match(file: str, precision: Precision) -> Callable[[], Sequence[torch.Tensor]]:
    """Return a function that finds permutations which bring the second network close to the first."""
    symmetry, a, b = read(file)
    a, b = a.state_dict(), b.state_dict()
    return lambda: match(symmetry, a, b, stream=STREAM, precision=precision).permutations


def their_match(file: str) -> Callable[[], Sequence[torch.Tensor]]:
    """Return git-re-basin's."""
    symmetry, a, b = read(file)
    a, b = a.state_dict(), b.state_dict()
    places, key = [symmetry.places(g) for g in range(len(symmetry.groups))], streams.key("descent", STREAM, 0)
    return lambda: [torch.from_numpy(p) for p in git_re_basin(places, a, b, key)]


def our_way(file: str, precision: Precision, sweeps: int) -> Callable[[], StateDict]:
    """Return a function that brings the second network close to the first, and gives its weights."""
    symmetry, a, b = read(file)
    a, b = a.state_dict(), b.state_dict()
    return lambda: permute(
        symmetry, match(symmetry, a, b, stream=STREAM, precision=precision, max_sweeps=sweeps).permutations, b
    )


def rebasins_way(file: str) -> Callable[[], StateDict]:
    """Return that of `rebasin`; it reads the networks here, once for every call that will come."""
    import rebasin

    warnings.simplefilter("ignore")
    a, b = map(written_out, read(file)[1:])
    waiting = [rebasin.PermutationCoordinateDescent(a, copy.deepcopy(b), EXAMPLE) for _ in range(3 + ROUNDS)]

    def align() -> StateDict:
        descent = waiting.pop()
        descent.rebasin()
        return descent.model_b.state_dict()

    return align


def race(duel, bar: float, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Race two functions of this file, given as their makers' names and arguments: ours as in a worker."""
    sides = Apart("test_matching", *ours, environment=worker_environment(1)), Apart("test_matching", *theirs)
    with contextlib.closing(sides[0]), contextlib.closing(sides[1]):
        duel(*sides, bar=bar, rounds=ROUNDS)


@pytest.mark.parametrize(("precision", "bar"), [("float64", 1.5), ("float32", 3.0)])
def test_against_git_re_basins_way(duel, pair, precision: Precision, bar: float) -> None:
    """The same permutations in the same sweeps."""
    found, plain = our_match(pair, precision)(), their_match(pair)()
    assert all(map(torch.equal, found, plain))
    race(duel, bar, ["our_match", pair, precision], ["their_match", pair])


@pytest.mark.parametrize(("precision", "sweeps", "bar"), [("float64", 100, 1.3), ("float32", 100, 2.3), ("float32", 1, 6.0)])
def test_against_rebasin(duel, pair, precision: Precision, sweeps: int, bar: float) -> None:
    """A higher objective, because the residual streams are permuted too: at the end, and after the first sweep.

    Neither side's reading of the network is timed.
    """
    pytest.importorskip("rebasin")
    reference = read(pair)[1].state_dict()
    states = our_way(pair, precision, sweeps)(), rebasins_way(pair)()
    values = [sum(float((reference[name] * state[name]).sum()) for name in reference) for state in states]
    assert values[0] > values[1]
    race(duel, bar, ["our_way", pair, precision, sweeps], ["rebasins_way", pair])
