"""`digits`: the 8×8 images of handwritten digits in scikit-learn (Alpaydin and Kaynak 1998). It needs no download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from harness import DataError, Dataset, Options, Split, streams

if TYPE_CHECKING:
    from torch import Tensor

STREAM = ("digits", "split")
"""The name of the random stream that draws the split."""


class DigitsOptions(Options):
    """Numbers of images of digits to use."""

    train_size: int | None = Field(
        None, ge=1, le=1_437, description="the first n training images, the rest is split 'held_out'; null: all 1,437"
    )
    test_size: int | None = Field(None, ge=1, le=360, description="the first n test images; null: all 360")


class Digits(Dataset):
    """1,797 gray 8×8 images of 10 digits, pixels scaled from 0…16 to 0…255: 1,437 for training and 360 for testing.

    The split is the same for every seed, and stratified: a fifth of each class, up to one image, is in the test split. Both
    splits are in random order, so that their first n images are a random sample.
    """

    name, version = "digits", 1
    Options = DigitsOptions
    shape = (1, 8, 8)
    num_classes = 10
    fingerprint = "sha256:569deac108bcad81b35d8fc97ca6f01c3ce12a5ef280c9c2a58b8d77027a5a75"
    normalization = (0.3056,), (0.3762,)

    @property
    def train_size(self) -> int:
        """1,437, or the option `train_size`."""
        return self.options.train_size or 1_437

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """`held_out`, the training images after the first `train_size`, if there are any."""
        return ("held_out",) if self.train_size < 1_437 else ()

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return both splits; the data root is not used."""
        train, test = self._load_all()
        return _first(train, self.options.train_size), _first(test, self.options.test_size)

    def load_split(self, name: str, root: Path) -> Split:
        """Return the held-out training images."""
        train, _ = self._load_all()
        return Split(train.images[self.train_size :], train.labels[self.train_size :])

    def _load_all(self) -> tuple[Split, Split]:
        """Return all 1,437 training and 360 test images."""
        import torch
        from sklearn.datasets import load_digits

        pixels, targets = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels).to(torch.int64).mul(255).add(8).div(16, rounding_mode="floor")
        images = images.to(torch.uint8).reshape(-1, *self.shape)
        labels = torch.from_numpy(targets).to(torch.int64)
        train_rows, test_rows = draw_split(labels)
        train = Split(images[train_rows], labels[train_rows])
        test = Split(images[test_rows], labels[test_rows])
        found = f"sha256:{_sha256(train, test)}"
        if found != self.fingerprint:
            raise DataError(f"digits: scikit-learn holds other images: {found}, expected {self.fingerprint}; reinstall it")
        return train, test


def draw_split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row indices of the training and of the test split, both int64, from labels (n,).

    The random stream gives each row a rank. In the order of label, then rank, every fifth row belongs to the test split. Each
    split is in the order of rank.
    """
    import torch

    ranks = streams.bits(streams.key(*STREAM), torch.arange(len(labels)))
    by_rank = ranks.argsort(stable=True)
    stratified = by_rank[labels[by_rank].argsort(stable=True)]
    for_test = torch.zeros(len(labels), dtype=torch.bool)
    for_test[stratified[::5]] = True
    return by_rank[~for_test[by_rank]], by_rank[for_test[by_rank]]


def _first(split: Split, n: int | None) -> Split:
    """Return the first n images and labels, or all if n is None."""
    return Split(split.images[:n], split.labels[:n])


def _sha256(*splits: Split) -> str:
    """Return the digest of the images and labels of splits, one split after the other."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
