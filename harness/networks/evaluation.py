"""Predictions of a network and of the networks between several. Everything is computed in float32 with TF32 off, whatever the
training's precision: lower precision moves connectivity by more than the differences it is measured for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.api.interfaces import Split
from harness.networks.flat_network import FlatNetwork

_BYTES_PER_BATCH = 24 * 2**20


class NormalizedImages:
    """The images of a split, normalized in batches on a device: (batch, channels, height, width), float32, channels-last.

    The batch size follows from the image size and the device alone, never from what is free, so that results repeat. Batches
    differ by at most one image, so that none is a single left-over image.
    """

    def __init__(self, split: Split, normalization: tuple[Sequence[float], Sequence[float]], device: torch.device) -> None:
        mean, std = (torch.tensor(v, device=device, dtype=torch.float32).view(1, -1, 1, 1) for v in normalization)
        self.images = split.images.to(device)
        self.scale, self.shift = 1 / (255 * std), mean / std
        floats = 64 * split.images[0].numel() * 4  # the first feature maps of a wide network, per image
        on_gpu = device.type == "cuda"
        largest = max(1, (64 if on_gpu else 1) * _BYTES_PER_BATCH // floats)
        self.batches_in_all = -(-len(split) // largest)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self) -> Iterator[Tensor]:
        """Yield all images in order."""
        for part in self.images.tensor_split(self.batches_in_all):
            yield self._normalized(part)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (batch,)."""
        return self._normalized(self.images[indices.to(self.images.device)])

    def _normalized(self, images: Tensor) -> Tensor:
        floats = images.to(torch.float32) * self.scale - self.shift
        return floats.contiguous(memory_format=torch.channels_last)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32 off within the block, and autocast too: it would go on with the weights of the point before."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@torch.no_grad()
def predict(network: FlatNetwork, images: NormalizedImages) -> Tensor:
    """Return the logits of a network on all images, float32 (examples, classes), on the network's device."""
    network.module.eval()
    with full_precision():
        return torch.cat([network.module(batch).float() for batch in images.batches()])


@torch.no_grad()
def predict_batch(network: FlatNetwork, images: Tensor) -> Tensor:
    """Return the logits of a network on normalized images (batch, channels, height, width), float32 (batch, classes).

    The network sees a copy: it may change its input in place.
    """
    network.module.eval()
    with full_precision():
        return network.module(images.clone()).float()


def differ(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Say whether tensors differ by more than rounding, in units of the largest finite value, or in shape.

    Equal infinities do not differ, nor do two NaNs: their difference is NaN.
    """
    if one.shape != other.shape:
        return True
    one, other = one.detach(), other.detach()
    if torch.equal(one, other):  # what follows takes several times the memory of one
        return False
    same = (one == other) | (one.isnan() & other.isnan())
    gap = (one - other).abs().masked_fill(same, 0)
    size = one.abs().masked_fill(~one.isfinite(), 0)
    return not float(gap.max()) <= tolerance * max(1.0, float(size.max()))
