"""Evaluation on a CUDA device against the CPU. Evaluation is float32 without TF32, so both agree to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.networks.flat_network import FlatNetwork
from harness.networks.recomputation import recomputed
from networks.evaluated import ClampedNetwork, logits, members, normalized, values_on_simplex
from siblings import images
from training.device_cases import NETWORKS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest logit."""

HANDFUL = 3
"""Of 192 images, how many may be classified differently, since two logits are almost equal."""


@pytest.mark.parametrize("name", NETWORKS)
def test_logits(name: str) -> None:
    """They agree to rounding, and so does the number of correct images."""
    found = logits(name, "cuda")
    expected = logits(name, "cpu")
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
    labels = images()[1]
    assert abs(int((found.argmax(1) == labels).sum()) - int((expected.argmax(1) == labels).sum())) <= HANDFUL


def test_interpolated_points() -> None:
    """Logits at members and between them agree to rounding, correct images but for a handful, states to the bit."""
    for found, expected in zip(values_on_simplex("cuda"), values_on_simplex("cpu"), strict=True):
        if expected.dtype == bool:
            assert np.count_nonzero(found != expected) <= HANDFUL
        elif expected.ndim == 2 and len(expected) == len(images()[1]):
            assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()
        else:
            np.testing.assert_array_equal(found, expected)


def test_recomputed_statistics() -> None:
    """They agree to rounding, and all other tensors to the bit."""
    state = members()[0].state_dict()
    found = recomputed(FlatNetwork(ClampedNetwork(), "cuda"), state, normalized("cuda"))
    expected = recomputed(FlatNetwork(ClampedNetwork()), state, normalized("cpu"))
    for name, value in expected.items():
        if "running" in name:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(found[name], value), name
