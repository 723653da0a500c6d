"""Work between the trainings of a run: the accuracy at an interpolated point, and the alignment of a pair."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import torch
from ladder import KEY, NORMALIZATION, Network, Work
from torch.utils.flop_counter import FlopCounterMode

from harness import Split, streams
from harness.networks.evaluation import EvaluationSetting, NormalizedImages
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.networks.interpolation import InterpolatedNetwork
from harness_basin.matching import derive_symmetry, match
from harness_basin.matching.coordinate_descent.descent import Precision


def evaluated_point(network: Network, device: str, images: int, setting: EvaluationSetting) -> Work:
    """Return the accuracy on `images` test images at interpolated weights of five members, another point per call.

    It is computed in float32 without TF32, as a run computes it.
    """
    pixels = streams.bits(KEY, torch.arange(images * 3 * network.pixels**2 // 8)).view(torch.uint8)
    split = Split(pixels.view(images, 3, network.pixels, network.pixels), torch.arange(images) % 10)
    normalized = NormalizedImages(split, NORMALIZATION, torch.device(device), setting)
    flat = FlatNetwork(network.ours(), device, layout=setting.layout)
    interpolated = InterpolatedNetwork(flat, [_state(network, member) for member in range(5)], normalized, normalized)
    labels = split.labels.numpy()
    points = cycle(np.random.default_rng(0).dirichlet(np.ones(5), size=16))
    return Work(lambda: interpolated.correct(next(points), labels), images, _forward_operations(network) * images)


def aligned_pair(network: Network, device: str, precision: Precision) -> Work:
    """Return the alignment of a pair of untrained networks, whose weights are on `device`. A pair counts as one image."""
    example = torch.zeros(2, 3, network.pixels, network.pixels)
    symmetry = derive_symmetry(network.ours().eval(), example)
    reference, other = (_on_device(_state(network, member), device) for member in range(2))
    draws = cycle(range(16))
    return Work(lambda: match(symmetry, reference, other, stream=next(draws), precision=precision), 1)


def _state(network: Network, member: int) -> StateDict:
    with streams.seeded(streams.key("perf", "member", member)):
        return network.ours().state_dict()


def _on_device(state: StateDict, device: str) -> StateDict:
    return {name: tensor.to(device) for name, tensor in state.items()}


def _forward_operations(network: Network) -> float:
    with FlopCounterMode(display=False) as counter:
        network.ours()(torch.zeros(1, 3, network.pixels, network.pixels))
    return float(counter.get_total_flops())
