"""`digits`: the real 8×8 digits that scikit-learn carries (Alpaydin and Kaynak 1998): first runs need no download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from harness import DataError, Dataset, Options, Split, streams

if TYPE_CHECKING:
    from torch import Tensor

STREAM = ("digits", "split")
"""The name of the stream that draws the split."""


class DigitsOptions(Options):
    """How much of digits to use."""

    train_size: int | None = Field(None, ge=1, le=1_437, description="the first n training images; null: all 1,437")
    test_size: int | None = Field(None, ge=1, le=360, description="the first n test images; null: all 360")


class Digits(Dataset):
    """1,797 gray images of 10 digits, 8×8, pixels scaled from 0…16 to 0…255; 1,437 to train and 360 to test on.

    The split is the same for every seed and stratified: each class has a fifth of its images, give or take one, in the test
    split. Both splits are in random order, so the first n are a fair sample.
    """

    name, version = "digits", 1
    Options = DigitsOptions
    shape = (1, 8, 8)
    num_classes = 10
    fingerprint = "sha256:569deac108bcad81b35d8fc97ca6f01c3ce12a5ef280c9c2a58b8d77027a5a75"
    normalization = (0.3056,), (0.3762,)

    @property
    def train_size(self) -> int:
        """1,437, or as many as the options say."""
        return self.options.train_size or 1_437

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return both splits; the data root is not looked at."""
        import torch
        from sklearn.datasets import load_digits

        pixels, targets = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels).to(torch.int64).mul(255).add(8).div(16, rounding_mode="floor")
        images, labels = images.to(torch.uint8).reshape(-1, *self.shape), torch.from_numpy(targets).to(torch.int64)
        train, test = draw_split(labels)
        whole = Split(images[train], labels[train]), Split(images[test], labels[test])
        found = f"sha256:{_sha256(*whole)}"
        if found != self.fingerprint:
            raise DataError(f"digits: scikit-learn holds other images: {found}, expected {self.fingerprint}; reinstall it")
        n, m = self.options.train_size, self.options.test_size
        return Split(whole[0].images[:n], whole[0].labels[:n]), Split(whole[1].images[:m], whole[1].labels[:m])


def draw_split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of the training and the test split.

    The stream gives every row a random rank. Ordered by label and rank, every fifth row is for testing; each split is then
    ordered by rank.
    """
    import torch

    ranks = streams.bits(streams.key(*STREAM), torch.arange(len(labels)))
    by_rank = ranks.argsort(stable=True)
    stratified = by_rank[labels[by_rank].argsort(stable=True)]
    for_test = torch.zeros(len(labels), dtype=torch.bool)
    for_test[stratified[::5]] = True
    return by_rank[~for_test[by_rank]], by_rank[for_test[by_rank]]


def _sha256(*splits: Split) -> str:
    """Return the digest of images and labels, both splits after one another."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
