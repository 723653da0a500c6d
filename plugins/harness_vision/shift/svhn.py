"""`svhn`: the test images of SVHN (Netzer et al. 2011), house numbers as images of other classes for CIFAR."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import ClassVar

from harness import DataError, Dataset, EvaluationSet, Split
from harness_vision.archives import Archive, download, exclusive_lock, read_checked
from harness_vision.checked_files import check_md5_once

_FILENAME = "test_32x32.mat"


class Svhn(EvaluationSet):
    """SVHN's 26,032 test images of house numbers, which are of none of CIFAR's classes."""

    name, version = "svhn", 1
    datasets = ("cifar10", "cifar100")
    shape = (3, 32, 32)
    paired = False
    out_of_distribution = True
    file: ClassVar[Archive] = Archive(
        filename=_FILENAME,
        url=f"http://ufldl.stanford.edu/housenumbers/{_FILENAME}",
        md5="eb5a983be6a315427106f1b164d9cef3",
        folder=_FILENAME,
        members=re.compile("(?!)"),
    )
    """The published file, which is no archive: nothing is unpacked."""
    count: ClassVar[int] = 26_032
    """The number of images."""

    def splits(self, dataset: Dataset) -> tuple[str, ...]:
        """Its test images."""
        return ("svhn",)

    def fingerprint(self, dataset: Dataset, split: str) -> str:
        """The published md5 of the file."""
        return f"{self.file.filename}:{self.file.md5}"

    def locate(self, dataset: Dataset, root: Path) -> None:
        """Check the file's md5 if it is new or has changed; download the file if it is missing."""
        path = root / self.file.filename
        if not path.is_file():
            with exclusive_lock(root, self.file.filename):
                if not path.is_file():  # another process may have downloaded it meanwhile
                    download(self.file, root)
        check_md5_once(path, self.file.md5, self._advice(root))

    def load(self, dataset: Dataset, split: str, root: Path) -> Split:
        """Return all images, with the label 0."""
        import numpy as np
        import torch
        from scipy.io import loadmat

        content = read_checked(root / self.file.filename, self.file.md5, self._advice(root))
        pixels = loadmat(io.BytesIO(content), variable_names=["X"])["X"]  # (height, width, channels, images)
        if pixels.shape[3] != self.count or pixels.dtype != np.uint8:
            raise DataError(
                f"{root / self.file.filename}: has {pixels.shape[3]} images of {pixels.dtype}; {self._advice(root)}"
            )
        images = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
        return Split(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64))

    def _advice(self, root: Path) -> str:
        return f"remove it and {self.file.advice(root)}"
