"""Permutation coordinate descent of a pair of ResNet20 (width 4), against git-re-basin's way and against the package `rebasin`.

Recorded on two cores of an AMD EPYC (Zen 4), one thread, processor time, random networks: see docs/matching.md.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from harness import streams
from harness_basin.matching import Symmetry, derive_symmetry, match, permute
from harness_basin.matching.descent import Precision
from harness_vision.resnet20_network import ResNet20Network

State = dict[str, torch.Tensor]
STREAM = 1


def network(seed: int) -> ResNet20Network:
    with streams.seeded(streams.key("perf", seed)):
        return ResNet20Network(64, (3, 32, 32), 10).eval()


@pytest.fixture(scope="module")
def pair() -> tuple[Symmetry, ResNet20Network, ResNet20Network]:
    """Two networks and their symmetry."""
    return derive_symmetry(network(0), torch.randn(2, 3, 32, 32)), network(0), network(1)


def git_re_basin(places: Sequence[Sequence[tuple[str, int]]], a: State, b: State, stream: int) -> list[np.ndarray]:
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


@pytest.mark.parametrize(("precision", "bar"), [("float64", 1.5), ("float32", 3.0)])
def test_against_git_re_basins_way(duel, pair, precision: Precision, bar: float) -> None:
    """The same permutations in the same sweeps."""
    symmetry, a, b = pair
    a, b = a.state_dict(), b.state_dict()
    places = [symmetry.places(g) for g in range(len(symmetry.groups))]
    key = streams.key("descent", STREAM, 0)
    found = match(symmetry, a, b, stream=STREAM, precision=precision)
    plain = git_re_basin(places, a, b, key)
    assert all(np.array_equal(p, q) for p, q in zip(found.permutations, plain))
    duel(
        lambda: match(symmetry, a, b, stream=STREAM, precision=precision),
        lambda: git_re_basin(places, a, b, key),
        bar=bar,
        rounds=9,
    )


@pytest.mark.parametrize(("precision", "bar"), [("float64", 1.3), ("float32", 2.5)])
def test_against_rebasin(duel, pair, precision: Precision, bar: float) -> None:
    """A higher objective, because the residual streams are permuted too. Both sides read the network off by running it."""
    rebasin = pytest.importorskip("rebasin")
    symmetry, a, b = pair
    example = torch.randn(2, 3, 32, 32)

    def ours() -> State:
        found = match(derive_symmetry(a, example), a.state_dict(), b.state_dict(), stream=STREAM, precision=precision)
        return permute(symmetry, found.permutations, b.state_dict())

    def theirs() -> State:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            permuted = copy.deepcopy(b)
            rebasin.PermutationCoordinateDescent(a, permuted, example).rebasin()
        return permuted.state_dict()

    reference = a.state_dict()
    values = [sum(float((reference[name] * state[name]).sum()) for name in reference) for state in (ours(), theirs())]
    assert values[0] > values[1]
    duel(ours, theirs, bar=bar, rounds=9)
