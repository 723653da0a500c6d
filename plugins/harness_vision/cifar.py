"""`cifar10` and `cifar100`, from the official Python batches (Krizhevsky 2009).

The batches are Python pickles, and unpickling can run any code. Bytes are unpickled only after their md5 has matched.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness import Dataset, Options, Split
from harness_vision.archives import Archive, provide, read_checked

if TYPE_CHECKING:
    from torch import Tensor


class CifarOptions(Options):
    """Numbers of images of a CIFAR data set to use."""

    train_size: int | None = Field(
        None, ge=1, le=50_000, description="the first n training images, the rest is split 'held_out'; null: all 50,000"
    )
    test_size: int | None = Field(None, ge=1, le=10_000, description="the first n test images; null: all 10,000")


class PythonBatches(Dataset):
    """Base of both CIFAR data sets.

    A subclass gives its archive, the md5 of each of its files by name, and the key of the labels in a batch.
    """

    Options = CifarOptions
    shape = (3, 32, 32)
    archive: ClassVar[Archive]
    train_files: ClassVar[Mapping[str, str]]
    test_files: ClassVar[Mapping[str, str]]
    label_key: ClassVar[str]

    @property
    def train_size(self) -> int:
        """50,000, or the option `train_size`."""
        return self.options.train_size or 50_000

    @property
    def fingerprint(self) -> str:
        """The published md5 of every file that is read."""
        files = {**self.train_files, **self.test_files}
        return " ".join(f"{name}:{md5}" for name, md5 in files.items())

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the test images in the order of the files."""
        folder = provide(self.archive, root)
        train = self._read(folder, self.train_files)
        test = self._read(folder, self.test_files)
        return _first(train, self.options.train_size), _first(test, self.options.test_size)

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """`held_out`, the training images after the first `train_size`, if there are any."""
        return ("held_out",) if self.train_size < 50_000 else ()

    def load_split(self, name: str, root: Path) -> Split:
        """Return the held-out training images."""
        images, labels = self._read(provide(self.archive, root), self.train_files)
        return Split(images[self.train_size :], labels[self.train_size :])

    def _read(self, folder: Path, files: Mapping[str, str]) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 (n, 3, 32, 32), and the labels, int64 (n,), of some files."""
        import numpy as np
        import torch

        advice = f"remove {folder} and {self.archive.advice(folder.parent)}"
        batches = []
        for name, md5 in files.items():
            content = read_checked(folder / name, md5, advice)
            batches.append(_unpickle(content))
        images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, *self.shape)
        labels = np.concatenate([batch[self.label_key] for batch in batches]).astype(np.int64)
        return torch.from_numpy(images), torch.from_numpy(labels)


class Cifar10(PythonBatches):
    """CIFAR-10: 50,000 + 10,000 images of 10 classes, 32×32."""

    name, version = "cifar10", 1
    num_classes = 10
    normalization = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    archive = Archive(
        filename="cifar-10-python.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        members=re.compile(r"cifar-10-batches-py/(data_batch_[1-5]|test_batch|batches\.meta|readme\.html)"),
    )
    train_files = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    }
    test_files = {"test_batch": "40351d587109b95175f43aff81a1287e"}
    label_key = "labels"


class Cifar100(PythonBatches):
    """CIFAR-100: 50,000 + 10,000 images of 100 (fine) classes, 32×32."""

    name, version = "cifar100", 1
    num_classes = 100
    normalization = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    archive = Archive(
        filename="cifar-100-python.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        members=re.compile(r"cifar-100-python/(train|test|meta)"),
    )
    train_files = {"train": "16019d7e3df5f24257cddd939b257f8d"}
    test_files = {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
    label_key = "fine_labels"


def _unpickle(content: bytes) -> dict[str, Any]:
    """Return the batch in verified bytes: `data`, uint8 (n, 3072), and lists of labels."""
    return pickle.loads(content, encoding="latin1")


def _first(split: tuple[Tensor, Tensor], n: int | None) -> Split:
    """Return the first n images and labels, or all if n is None; copy a part, so that the whole can be freed."""
    images, labels = split
    if n is None:
        return Split(images, labels)
    return Split(images[:n].clone(), labels[:n].clone())
