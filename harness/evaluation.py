"""Predictions at points of weight space. Everything is computed in float32 with TF32 off, whatever the training's precision:
lower precision moves connectivity by more than the differences it is measured for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from harness.ensemble import BatchNorm
from harness.interfaces import Split
from harness.weights import FlatNetwork, has_batchnorm, recompute_batchnorm

_BYTES_PER_BATCH = 24 * 2**20


class Images:
    """The images of a split, normalised in batches on a device: (batch, channels, height, width), float32, channels-last.

    The batch size follows from the image size and the device alone, never from what is free, so that results repeat.
    """

    def __init__(self, split: Split, normalisation: tuple[Sequence[float], Sequence[float]], device: torch.device) -> None:
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in normalisation)
        self.images = split.images.to(device)
        self.scale, self.shift = 1 / (255 * std), mean / std
        floats = 64 * split.images[0].numel() * 4  # the first feature maps of a wide network, per image
        on_gpu = device.type == "cuda"
        self.batch = max(1, min(len(split), (64 if on_gpu else 1) * _BYTES_PER_BATCH // floats))

    def batches(self, count: int | None = None) -> Iterator[Tensor]:
        """Yield the first `count` images (all by default) in order."""
        chosen = self.images[:count]
        for start in range(0, len(chosen), self.batch):
            part = chosen[start : start + self.batch].to(torch.float32)
            yield (part * self.scale - self.shift).contiguous(memory_format=torch.channels_last)


@contextmanager
def exact() -> Iterator[None]:
    """Switch TF32 off within the block, and autocast too: it would go on with the weights of the point before."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@torch.no_grad()
def predict(network: FlatNetwork, images: Images) -> Tensor:
    """Return the logits of a network on all images, float32 (examples, classes), on the network's device."""
    network.module.eval()
    with exact():
        return torch.cat([network.module(batch).float() for batch in images.batches()])


class Between:
    """One network that moves through the convex hull of the members: λ @ Θ, Θ float32 (members, parameters + buffers).

    `train` holds the images from which BatchNorm statistics are recomputed, the first `statistics` of them.
    """

    def __init__(
        self, network: FlatNetwork, members: Sequence[Tensor], test: Images, train: Images, statistics: int = 2048
    ) -> None:
        self.network, self.test, self.train, self.statistics = network, test, train, statistics
        self.matrix = torch.stack([member.to(network.vector.device) for member in members])
        self.has_batchnorm = has_batchnorm(network.module)

    def move(self, point: np.ndarray, batchnorm: BatchNorm = "recompute") -> None:
        """Set the network to Σ_i point[i] θ_i.

        A corner of the simplex is that member to the bit, its own statistics included.
        """
        corner = np.flatnonzero(point == 1.0)
        if len(corner) == 1 and np.count_nonzero(point) == 1:
            self.network.vector.copy_(self.matrix[int(corner[0])])
            return
        weights = torch.tensor(point, dtype=self.matrix.dtype, device=self.matrix.device)
        with exact():
            torch.mv(self.matrix.t(), weights, out=self.network.vector)
            if self.has_batchnorm and batchnorm == "recompute":
                recompute_batchnorm(self.network.module, self.train.batches(self.statistics))

    def correct(self, point: np.ndarray, labels: np.ndarray, batchnorm: BatchNorm = "recompute") -> np.ndarray:
        """Return where the network at a point is right: bool (examples,). Outputs that are not finite are wrong."""
        self.move(point, batchnorm)
        logits = predict(self.network, self.test)
        guesses = logits.argmax(1).masked_fill_(~logits.isfinite().all(1), -1)
        return guesses.cpu().numpy() == labels
