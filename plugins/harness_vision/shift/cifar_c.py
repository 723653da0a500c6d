"""`cifar10_c` and `cifar100_c`: the published corrupted test images (Hendrycks and Dietterich 2019).

The folder of a set has one file per corruption, `<name>.npy`, uint8 (50000, 32, 32, 3): rows 10000(s − 1) to 10000 s are the
test images in their order at severity s. `labels.npy` has the labels of all rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from harness import DataError, Dataset, EvaluationSet, Split
from harness_vision.archives import Archive, provide
from harness_vision.checked_files import check_md5_once
from harness_vision.shift.cifar_c_files import CIFAR10_C, CIFAR100_C, COMMON, EXTRA
from harness_vision.shift.options import SeverityOptions, selected, split_names, split_parts

_IMAGES = 10_000
_MEMBERS = r"[a-z_]+\.npy"


class CifarCOptions(SeverityOptions):
    """Corruptions and severities of CIFAR-10-C or CIFAR-100-C to use."""

    corruptions: tuple[str, ...] | None = Field(None, description="names of corruptions to use; null: the 15 common ones")
    extra: bool = Field(False, description="also use the 4 extra corruptions: " + ", ".join(EXTRA))

    @field_validator("corruptions", mode="before")
    @classmethod
    def _check_names(cls, corruptions: Any) -> Any:
        return selected(corruptions, COMMON + EXTRA, "the 19 corruptions")


class CifarC(EvaluationSet):
    """Base of both sets. A subclass gives its archive, and the md5 of each of its files by name."""

    Options = CifarCOptions
    shape = (3, 32, 32)
    archive: ClassVar[Archive]
    files: ClassVar[Mapping[str, str]]

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions in use, in the published order."""
        chosen: tuple[str, ...] = self.options.corruptions or COMMON
        if self.options.extra:
            chosen = (*(name for name in chosen if name not in EXTRA), *EXTRA)
        return chosen

    def splits(self, dataset: Dataset) -> tuple[str, ...]:
        """`<corruption>/<severity>`."""
        return split_names(self.corruptions, self.options.severities)

    def fingerprint(self, dataset: Dataset, split: str) -> str:
        """The split, and the published md5 of its files."""
        corruption, _ = split_parts(split)
        return f"{split} {self.files[corruption]} labels {self.files['labels']}"

    def locate(self, dataset: Dataset, root: Path) -> None:
        """Find the files, and check the md5 of each that is new or has changed: 146 MiB per corruption.

        Unpack or download the archive if the folder is missing.
        """
        folder = provide(self.archive, root)
        for name in (*self.corruptions, "labels"):
            self._checked(folder, name)

    def load(self, dataset: Dataset, split: str, root: Path) -> Split:
        """Return the corrupted test images; with the data set's option `test_size: n` the first n of them."""
        import numpy as np
        import torch

        folder = provide(self.archive, root)
        corruption, severity = split_parts(split)
        size: int | None = getattr(dataset.options, "test_size", None)
        first = _IMAGES * (severity - 1)
        rows = slice(first, first + (size or _IMAGES))
        pixels = np.load(self._checked(folder, corruption), mmap_mode="r")[rows]
        labels = np.load(self._checked(folder, "labels"))[rows].astype(np.int64)
        images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return Split(torch.from_numpy(images), torch.from_numpy(labels))

    def _checked(self, folder: Path, name: str) -> Path:
        """Return the path of a file with the published md5; raise `DataError` for another one, or for none."""
        path = folder / f"{name}.npy"
        advice = f"remove {folder} and {self.archive.advice(folder.parent)}"
        if not path.is_file():
            raise DataError(f"{path}: not there; {advice}")
        check_md5_once(path, self.files[name], advice)
        return path


class Cifar10C(CifarC):
    """CIFAR-10-C: CIFAR-10's test images with 15 (or 19) corruptions at 5 severities, official files."""

    name, version = "cifar10_c", 1
    datasets = ("cifar10",)
    archive = Archive(
        filename="CIFAR-10-C.tar",
        url="https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
        md5="56bf5dcef84df0e2308c6dcbcbbd8499",
        folder="CIFAR-10-C",
        members=re.compile("CIFAR-10-C/" + _MEMBERS),
    )
    files = CIFAR10_C


class Cifar100C(CifarC):
    """CIFAR-100-C: CIFAR-100's test images with 15 (or 19) corruptions at 5 severities, official files."""

    name, version = "cifar100_c", 1
    datasets = ("cifar100",)
    archive = Archive(
        filename="CIFAR-100-C.tar",
        url="https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",
        md5="11f0ed0f1191edbf9fa23466ae6021d3",
        folder="CIFAR-100-C",
        members=re.compile("CIFAR-100-C/" + _MEMBERS),
    )
    files = CIFAR100_C
