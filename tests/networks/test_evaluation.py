"""How predictions are computed: layouts of images and weights, autotuned convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import Split, streams
from harness.networks.evaluation import DEFAULT_EVALUATION, EvaluationSetting, NormalizedImages, predict
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness_vision.resnet20_network import ResNet20Network

NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)
CPU = torch.device("cpu")
SETTINGS = [
    EvaluationSetting("channels_last", autotune=True),
    EvaluationSetting("contiguous", autotune=False),
    EvaluationSetting("contiguous", autotune=True),
]


def pictures() -> Split:
    """Return 24 random images."""
    pixels = streams.bits(streams.key("pictures"), torch.arange(24 * 3 * 16 * 2)).view(torch.uint8).view(24, 3, 16, 16)
    return Split(pixels, torch.arange(24) % 5)


def network(member: int) -> ResNet20Network:
    """Return a member's ResNet20 of eight channels."""
    with streams.seeded(streams.key("member", member)):
        return ResNet20Network(8, (3, 16, 16), 5)


def flat_logits(setting: EvaluationSetting) -> torch.Tensor:
    """Return a network's logits on the pictures, all in the layout of a setting."""
    images = NormalizedImages(pictures(), NORMALIZATION, CPU, setting)
    return predict(FlatNetwork(network(0), layout=setting.layout), images)


def test_default_setting() -> None:
    """It is channels-last without autotuning, and equals a forward pass that is written out, to the bit."""
    assert EvaluationSetting("channels_last", autotune=False) == DEFAULT_EVALUATION
    module = network(0).eval().to(memory_format=torch.channels_last)
    std = torch.full((1, 3, 1, 1), 0.25)
    images = pictures().images.float() * (1 / (255 * std)) - torch.full((1, 3, 1, 1), 0.5) / std
    with torch.no_grad():
        expected = module(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(flat_logits(DEFAULT_EVALUATION), expected)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_compute_the_same(setting: EvaluationSetting) -> None:
    """Logits differ by rounding at most; torch's flag is as it was."""
    before = torch.backends.cudnn.benchmark
    torch.testing.assert_close(flat_logits(setting), flat_logits(DEFAULT_EVALUATION), rtol=1e-4, atol=1e-5)
    assert torch.backends.cudnn.benchmark == before


def test_contiguous_layout() -> None:
    """Images and weights of convolutions are contiguous, and stay so at interpolated weights."""
    setting = EvaluationSetting("contiguous")
    images = NormalizedImages(pictures(), NORMALIZATION, CPU, setting)
    assert next(images.batches()).is_contiguous()
    assert images.take(torch.arange(3)).is_contiguous()
    states = [network(member).state_dict() for member in range(2)]
    found = []
    for layout in ("channels_last", "contiguous"):
        flat = FlatNetwork(network(0), layout=layout)
        interpolated = InterpolatedNetwork(flat, states, images, images)
        interpolated.correct(np.array([0.25, 0.75]), np.zeros(24, dtype=np.int64))
        found.append(flat.state())
    assert flat.module.groups[0][0].conv1.weight.is_contiguous()
    assert all(torch.equal(found[0][name], found[1][name]) for name in states[0])
