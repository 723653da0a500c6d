"""The inputs of a captured step, in memory that stays in place."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness import streams
from harness.training.step import StepInputs


class StaticInputs:
    """The inputs of a captured step: tensors that keep their memory and are rewritten before each replay."""

    def __init__(self, inputs: StepInputs, device: torch.device) -> None:
        self._indices = inputs.indices.clone()
        self._keys = torch.zeros(2, dtype=torch.int64, device=device)
        self._numbers = torch.zeros(2, dtype=torch.float64, device=device)
        self.inputs = StepInputs(self._indices, *self._keys.unbind(), *self._numbers.unbind())
        self.write(inputs)

    def write(self, inputs: StepInputs) -> None:
        """Copy inputs whose values are numbers into the tensors."""
        assert isinstance(inputs.augmentation, int)
        assert isinstance(inputs.noise, int)
        self._indices.copy_(inputs.indices)
        self._keys[0].fill_(streams.signed(inputs.augmentation))
        self._keys[1].fill_(streams.signed(inputs.noise))
        self._numbers[0].fill_(float(inputs.rate))
        self._numbers[1].fill_(float(inputs.count))


def different_inputs(inputs: StepInputs, images: int) -> StepInputs:
    """Return inputs that differ in every field; `images` is the number of training images."""
    assert isinstance(inputs.augmentation, int)
    assert isinstance(inputs.noise, int)
    return replace(
        inputs,
        indices=(inputs.indices + 1) % images,
        augmentation=inputs.augmentation ^ 1,
        noise=inputs.noise ^ 1,
        rate=3 * inputs.rate,
        count=inputs.count + 5,
    )
