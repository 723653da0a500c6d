"""Compare C2M3 with its published implementation's way, and bound the growth and memory of joint matchings and derivations.

docs/matching.md has the results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
import torch
from peak_memory import FEW_STEPS, peak_multiple, random_resnets
from published_c2m3 import published_frank_wolfe
from side_process import SideProcess
from test_matching import objective, read_pair, trained
from torch import Tensor, nn

from harness.execution.engines.worker_process import worker_environment
from harness_basin.matching import Symmetry, derive_symmetry, match_cycle_consistently, match_jointly, permute

STREAM = 1
ROUNDS = 3
TIMES_TWO_MEMBERS = 10.0  # the number of pairs among five members, of which two have one
TIMES_HALF_THE_BLOCKS = 3.0  # twice as many blocks: a linear derivation takes 2, a quadratic one 4
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


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize("match", [match_jointly, match_cycle_consistently], ids=lambda match: match.__name__)
def test_five_members(benchmark, match) -> None:
    """A step with five ResNet20s of the paper's width, which have ten pairs, takes at most ten times as long as with two."""
    torch.set_num_threads(1)
    symmetry, states = random_resnets(5, 16)
    few_steps = FEW_STEPS[match.__name__]
    match(symmetry, states[:2], stream=STREAM, **few_steps)
    two = processor_seconds(lambda: match(symmetry, states[:2], stream=STREAM, **few_steps))
    five = processor_seconds(lambda: match(symmetry, states, stream=STREAM, **few_steps))
    seconds = processor_seconds(lambda: benchmark.pedantic(lambda: match(symmetry, states, stream=STREAM), rounds=1))
    benchmark.extra_info.update(seconds=seconds, ratio_of_a_step=five / two)
    assert five < TIMES_TWO_MEMBERS * two


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


def residual_network(blocks: int) -> nn.Module:
    """Return a network of residual blocks, two layers each, between a convolution and a classifier."""
    body = [Residual(16) for _ in range(blocks)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *body, *head).eval()


def test_derivation_of_a_network_of_300_layers(benchmark) -> None:
    """Deriving and verifying the symmetry of 150 residual blocks takes at most three times as long as that of 75."""
    torch.set_num_threads(1)
    example = torch.zeros(1, 3, 8, 8)
    derive_symmetry(residual_network(2), example)
    half = processor_seconds(lambda: derive_symmetry(residual_network(75), example))
    network = residual_network(150)
    symmetries: list[Symmetry] = []

    def derive() -> None:
        symmetries.append(derive_symmetry(network, example))

    whole = processor_seconds(lambda: benchmark.pedantic(derive, rounds=1))
    benchmark.extra_info.update(seconds=whole, seconds_of_half=half, ratio=whole / half)
    assert whole < TIMES_HALF_THE_BLOCKS * half
    assert len(symmetries[0].groups) == 151
