"""Predictions of a network, in float32 without TF32, whatever the precision of the training.

A lower precision changes connectivity by more than the differences that it is measured for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api.data import Split
from harness.networks.flat_network import FlatNetwork, Layout
from harness.networks.float32 import ieee_float32

_BYTES_PER_BATCH = 24 * 2**20


@dataclass(frozen=True)
class EvaluationSetting:
    """How predictions are computed. It affects speed and rounding, and is part of no key.

    `layout` is that of the images; the network's convolution weights should have the same. `autotune` lets cuDNN measure which
    of its convolutions is the fastest for each shape; without it, torch's own flag decides.
    """

    layout: Layout = "channels_last"
    autotune: bool = False


DEFAULT_EVALUATION = EvaluationSetting()


class NormalizedImages:
    """The images of a split on a device, normalized per batch: float32 (batch, channels, height, width), in a setting's layout.

    `normalization` is the mean and the standard deviation per channel. The batch size depends on the image size and the type of
    the device alone, not on free memory, so that results are reproducible. Batch sizes differ by at most one image, so that no
    batch is a single remaining image.
    """

    def __init__(
        self,
        split: Split,
        normalization: tuple[Sequence[float], Sequence[float]],
        device: torch.device,
        setting: EvaluationSetting = DEFAULT_EVALUATION,
    ) -> None:
        self.setting = setting
        mean, std = (torch.tensor(v, device=device, dtype=torch.float32).view(1, -1, 1, 1) for v in normalization)
        self.images = split.images.to(device)
        self.scale = 1 / (255 * std)
        self.shift = mean / std
        bytes_per_image = 64 * split.images[0].numel() * 4  # the first feature maps of a wide network
        bytes_per_batch = _BYTES_PER_BATCH
        if device.type == "cuda":
            bytes_per_batch = 64 * _BYTES_PER_BATCH
        largest = max(1, bytes_per_batch // bytes_per_image)
        self.batch_count = -(-len(split) // largest)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self) -> Iterator[Tensor]:
        """Yield all images in their order."""
        for part in self.images.tensor_split(self.batch_count):
            yield self._normalized(part)

    def take(self, indices: Tensor) -> Tensor:
        """Return the normalized images at indices, int64 (batch,)."""
        return self._normalized(self.images[indices.to(self.images.device)])

    def _normalized(self, images: Tensor) -> Tensor:
        floats = images.to(torch.float32) * self.scale - self.shift
        if self.setting.layout == "contiguous":
            return floats.contiguous()
        return floats.contiguous(memory_format=torch.channels_last)


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 and autocast within the block. Autocast would also reuse the cached weights of an earlier point."""
    with ieee_float32(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def _convolutions(setting: EvaluationSetting) -> Iterator[None]:
    """Let cuDNN measure its convolutions within the block, if the setting says so."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or setting.autotune
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@torch.no_grad()
def predict(network: FlatNetwork, images: NormalizedImages) -> Tensor:
    """Return the logits of a network on all images, float32 (examples, classes), on the network's device."""
    network.module.eval()
    with full_precision(), _convolutions(images.setting):
        return torch.cat([network.module(batch).float() for batch in images.batches()])


@torch.no_grad()
def predict_batch(network: FlatNetwork, images: Tensor) -> Tensor:
    """Return the logits of a network on normalized images (batch, channels, height, width), float32 (batch, classes).

    The network gets a copy of the images, since it may change its input in place.
    """
    network.module.eval()
    with full_precision():
        return network.module(images.clone()).float()


def differ(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Return whether tensors differ in shape, or by more than `tolerance` times the largest finite value (at least 1).

    Equal infinities do not differ, nor do two NaNs.
    """
    if one.shape != other.shape:
        return True
    one, other = one.detach(), other.detach()
    if torch.equal(one, other):  # saves the temporary tensors below
        return False
    same = (one == other) | (one.isnan() & other.isnan())
    gap = (one - other).abs().masked_fill(same, 0)
    size = one.abs().masked_fill(~one.isfinite(), 0)
    return not float(gap.max()) <= tolerance * max(1.0, float(size.max()))
