"""Compare the matching step of `ste` and `ste_mm` with git-re-basin's weight matching, on a pair of ResNet20 (width 4).

A step matches the second network to a latent point, which has moved by one step of Adam. Ours keeps the
permutations of the last step. Theirs matches anew: from the identity, or from the last permutations. Assignments are cold.
docs/alignments/ste_mm.md has the results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from side_process import SideProcess
from sklearn.datasets import load_digits
from test_matching import EXAMPLE, git_re_basin, trained

from harness import streams
from harness.execution.engines.worker_process import worker_environment
from harness_basin.matching import Permutations, derive_symmetry, match
from harness_basin.matching.coordinate_descent.gram import Pair
from harness_basin.matching.coordinate_descent.rematching import Rematcher
from harness_basin.matching.straight_through import LatentRule, StraightThrough

STEPS = 4
ROUNDS = 5
STREAM = 1

StateDict = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> str:
    """The path of a file with two trained networks, and the latent points after each of some steps of Adam at the midpoint."""
    networks = [trained(0), trained(1)]
    members = [network.state_dict() for network in networks]
    straight = StraightThrough(
        derive_symmetry(networks[0], EXAMPLE), members, LatentRule("adam", 1e-3), stream=STREAM, max_sweeps=300
    )
    straight.match_to_first()
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16)[:, None].expand(-1, 3, -1, -1)
    labels = torch.from_numpy(digits.target)
    weights = torch.full((2,), 0.5, dtype=torch.float64)
    latents = []
    for step in range(STEPS):
        network = networks[0]
        parameters = {name: tensor.requires_grad_() for name, tensor in straight.mixture(weights).items()}
        batch = slice(64 * step, 64 * (step + 1))
        loss = F.cross_entropy(torch.func.functional_call(network, parameters, (images[batch],)), labels[batch])
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        straight.step(straight.layout.flatten(dict(zip(parameters, gradients, strict=True))), weights)
        moved = straight.layout.views(straight.tensors()["latents"][0])
        latents.append({name: tensor.clone() for name, tensor in moved.items()})
    file = tmp_path_factory.mktemp("steps") / "steps.pt"
    torch.save([networks, latents], file)
    return str(file)


def read(file: str) -> tuple[Any, list[StateDict], list[StateDict]]:
    """Return the symmetry, the members, and the latent points."""
    networks, latents = torch.load(file, weights_only=False)
    return derive_symmetry(networks[0], EXAMPLE), [network.state_dict() for network in networks], latents


def first_permutations(file: str) -> Permutations:
    """Return the permutations of the first step, which both sides start from if they start from earlier ones."""
    symmetry, (first, second), _ = read(file)
    return match(symmetry, first, second, stream=STREAM).permutations


def our_steps(file: str) -> Callable[[], list[Permutations]]:
    """Return a function that takes all steps in our way."""
    symmetry, (_, second), latents = read(file)
    start = first_permutations(file)
    rematcher = Rematcher(symmetry, second)

    def work() -> list[Permutations]:
        found = []
        permutations = start
        for step, latent in enumerate(latents):
            permutations = rematcher.match(latent, permutations, stream=streams.key("step", step))
            found.append(permutations)
        return found

    return work


def their_steps(file: str, keeps_permutations: bool) -> Callable[[], list[Permutations]]:
    """Return a function that takes all steps by git-re-basin's matching."""
    symmetry, (_, second), latents = read(file)
    groups = [symmetry.places(g) for g in range(len(symmetry.groups))]
    begin = [permutation.numpy() for permutation in first_permutations(file)]

    def work() -> list[Permutations]:
        found = []
        start: Sequence[np.ndarray] | None = begin if keeps_permutations else None
        for step, latent in enumerate(latents):
            permutations = git_re_basin(groups, latent, second, streams.key("step", step), start)
            found.append(tuple(torch.from_numpy(p) for p in permutations))
            if keeps_permutations:
                start = permutations
        return found

    return work


def objectives(file: str, found: Sequence[Permutations]) -> list[float]:
    """Return the inner product of each step's latent point with the permuted network."""
    symmetry, (_, second), latents = read(file)
    counted = [block for block in symmetry.blocks if block.counts]
    reached = []
    for latent, permutations in zip(latents, found, strict=True):
        pair = Pair(symmetry, symmetry.checked(latent), symmetry.checked(second), torch.float64)
        reached.append(pair.value(counted, permutations))
    return reached


@pytest.mark.parametrize(("keeps_permutations", "bar"), [(False, 3.0), (True, 2.0)], ids=["from-scratch", "from-last"])
def test_matching_step(compare, steps, keeps_permutations: bool, bar: float) -> None:
    """Ours is faster by the factor `bar` and reaches at least the same objective, summed over the steps."""
    ours = objectives(steps, our_steps(steps)())
    theirs = objectives(steps, their_steps(steps, keeps_permutations)())
    print(f"objectives: ours {ours}, theirs {theirs}")
    assert sum(ours) >= sum(theirs) * (1 - 1e-9)
    our_side = SideProcess("test_straight_through", "our_steps", steps, environment=worker_environment(1))
    their_side = SideProcess("test_straight_through", "their_steps", steps, keeps_permutations)
    with contextlib.closing(our_side), contextlib.closing(their_side):
        result = compare(our_side, their_side, bar=bar, items=(STEPS, STEPS), rounds=ROUNDS)
    print(result)
