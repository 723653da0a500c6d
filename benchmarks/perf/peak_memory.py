"""Measure the memory that a matching takes, in a process of its own (Linux).

`python peak_memory.py MATCHING MEMBERS WIDTH` prints the peak of the memory that the matching of ResNet20s adds to the members,
as a multiple of the members' size. The process returns freed memory at once, so that only memory in use counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from harness import streams
from harness_basin import matching
from harness_basin.matching.straight_through import LatentRule, StraightThrough
from harness_vision.resnet20_network import ResNet20Network

RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}

FEW_STEPS = {"match_jointly": {"max_rounds": 2}, "match_cycle_consistently": {"max_steps": 3}}
"""Options of the matchings that end after a few steps. The peak of memory is reached in the first ones."""

StateDict = dict[str, torch.Tensor]
Match = Callable[[matching.Symmetry, list[StateDict]], object]


def match_pair(symmetry: matching.Symmetry, states: list[StateDict]) -> object:
    """Match the second network to the first."""
    return matching.match(symmetry, states[0], states[1], stream=0, max_sweeps=3)


def match_jointly(symmetry: matching.Symmetry, states: list[StateDict]) -> object:
    """Match all networks by Multi-PCD."""
    return matching.match_jointly(symmetry, states, stream=0, **FEW_STEPS["match_jointly"])


def match_cycle_consistently(symmetry: matching.Symmetry, states: list[StateDict]) -> object:
    """Match all networks by C2M3."""
    return matching.match_cycle_consistently(symmetry, states, stream=0, **FEW_STEPS["match_cycle_consistently"])


def step_straight_through(symmetry: matching.Symmetry, states: list[StateDict]) -> object:
    """Take steps of STE-MM at the mean, without a network: the gradient is the mean itself."""
    weights = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
    straight = StraightThrough(symmetry, states, LatentRule("adam", 1e-3), stream=0, max_sweeps=3)
    straight.match_to_first()
    straight.unaligned_center()
    for _ in range(2):
        gradient = straight.layout.flatten(straight.mixture(weights))
        straight.step(gradient, weights)
    return straight


MATCHINGS: dict[str, Match] = {
    "match": match_pair,
    "match_jointly": match_jointly,
    "match_cycle_consistently": match_cycle_consistently,
    "straight_through": step_straight_through,
}
"""The matchings by name, with few steps: the peak is reached in the first ones."""


def peak_multiple(name: str, members: int, width: int) -> float:
    """Return the peak of added memory over the members' size, measured in a child process."""
    command = [sys.executable, __file__, name, str(members), str(width)]
    answer = subprocess.run(command, env={**os.environ, **RETURN_FREED_MEMORY}, capture_output=True, text=True, check=True)
    return float(answer.stdout)


def random_resnets(members: int, width: int) -> tuple[matching.Symmetry, list[StateDict]]:
    """Return the symmetry and the weights of ResNet20s that have nothing in common."""
    networks = []
    for seed in range(members):
        with streams.seeded(streams.key("resnet", seed)):
            networks.append(ResNet20Network(width, (3, 8, 8), 10).eval())
    symmetry = matching.derive_symmetry(networks[0], torch.zeros(1, 3, 8, 8))
    return symmetry, [network.state_dict() for network in networks]


def _status(name: str) -> int:
    """Return an entry of the process's status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no entry {name} in /proc/self/status")


def main(name: str, members: str, width: str) -> None:
    """Match small networks first, so that libraries are loaded; then measure."""
    match = MATCHINGS[name]
    match(*random_resnets(3, 4))
    symmetry, states = random_resnets(int(members), int(width))
    size = sum(tensor.numel() * tensor.element_size() for state in states for tensor in state.values())
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    match(symmetry, states)
    print((_status("VmHWM") - before) / size)


if __name__ == "__main__":
    main(*sys.argv[1:])
