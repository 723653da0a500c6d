"""Compare C2M3 with its published implementation's way, and bound the time and memory of joint matchings and derivations.

docs/matching.md has the results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
import torch
from peak_memory import peak_multiple, random_resnets
from published_c2m3 import published_frank_wolfe
from side_process import SideProcess
from test_matching import objective, read_pair, trained
from torch import Tensor, nn

from harness.execution.engines.worker_process import worker_environment
from harness_basin.matching import derive_symmetry, match_cycle_consistently, match_jointly, permute

STREAM = 1
ROUNDS = 3
SECONDS_OF_FIVE_MEMBERS = 5.0
SECONDS_OF_DERIVATION = 10.0
MEMORY_MULTIPLE = 3.0

Align = Callable[[], dict[str, Tensor]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> str:
    """The path of a file with two trained networks."""
    file = tmp_path_factory.mktemp("pair") / "pair.pt"
    torch.save([trained(0), trained(1)], file)
    return str(file)


def our_c2m3(file: str) -> Align:
    """Return a function that computes our aligned weights of the second network, in float32."""
    symmetry, a, b = read_pair(file)
    states = [a.state_dict(), b.state_dict()]

    def align() -> dict[str, Tensor]:
        found = match_cycle_consistently(symmetry, states, stream=STREAM, precision="float32")
        return permute(symmetry, found.permutations[1], states[1])

    return align


def published_c2m3(file: str) -> Align:
    """Return a function that computes the aligned weights of the second network by the published way, in float32."""
    symmetry, a, b = read_pair(file)
    groups = [symmetry.places(g) for g in range(len(symmetry.groups))]
    states = [a.state_dict(), b.state_dict()]

    def align() -> dict[str, Tensor]:
        return permute(symmetry, tuple(published_frank_wolfe(groups, *states)), states[1])

    return align


def test_against_the_published_c2m3(compare, pair) -> None:
    """Our objective is at least as high, and ours is at least three times as fast."""
    _, reference, _ = read_pair(pair)
    ours = objective(reference.state_dict(), our_c2m3(pair)())
    theirs = objective(reference.state_dict(), published_c2m3(pair)())
    assert ours >= theirs * (1 - 1e-6)
    our_side = SideProcess("test_joint_matching", "our_c2m3", pair, environment=worker_environment(1))
    their_side = SideProcess("test_joint_matching", "published_c2m3", pair)
    with contextlib.closing(our_side), contextlib.closing(their_side):
        compare(our_side, their_side, bar=3.0, rounds=ROUNDS, warmup=0)


@pytest.mark.parametrize("match", [match_jointly, match_cycle_consistently], ids=lambda match: match.__name__)
def test_five_members(benchmark, match) -> None:
    """Five ResNet20s of the paper's width are matched within the promised time of one thread."""
    torch.set_num_threads(1)
    symmetry, states = random_resnets(5, 16)
    began = time.process_time()
    benchmark.pedantic(lambda: match(symmetry, states, stream=STREAM), rounds=1)
    assert time.process_time() - began < SECONDS_OF_FIVE_MEMBERS


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize("function", ["match_jointly", "match_cycle_consistently"])
def test_memory(benchmark, function: str, members: int) -> None:
    """Beside the members, a joint matching takes less than three times their size."""
    multiple = peak_multiple(function, members, 32)
    benchmark.extra_info.update(multiple=multiple)
    benchmark.pedantic(lambda: None, rounds=1)
    assert multiple < MEMORY_MULTIPLE


class Residual(nn.Module):
    """A residual block of two convolutions with BatchNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


def test_derivation_of_a_network_of_300_layers(benchmark) -> None:
    """The symmetry of 150 residual blocks is derived and verified within the promised time."""
    torch.set_num_threads(1)
    blocks = [Residual(16) for _ in range(150)]
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    began = time.process_time()
    symmetry = benchmark.pedantic(lambda: derive_symmetry(network.eval(), torch.zeros(1, 3, 8, 8)), rounds=1)
    assert time.process_time() - began < SECONDS_OF_DERIVATION
    assert len(symmetry.groups) == 151
