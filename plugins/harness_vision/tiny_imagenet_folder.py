"""The folder of Tiny ImageNet: which classes and images a copy holds. Opens no image.

train/<wnid>/images/<wnid>_<number>.JPEG
val/images/val_<number>.JPEG
val/val_annotations.txt    # file name, WordNet number and bounding box of each validation image, separated by tabs
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness import DataError
from harness_vision.archives import Archive
from harness_vision.tiny_imagenet_classes import WNIDS

LabeledPaths = list[tuple[Path, int]]
"""Image files with the index of their class."""


@dataclass(frozen=True)
class Layout:
    """What a complete copy holds: the WordNet numbers of its classes in ascending order, and the images of each class."""

    archive: Archive
    wnids: tuple[str, ...]
    train_images: int
    test_images: int


OFFICIAL = Layout(
    archive=Archive(
        filename="tiny-imagenet-200.zip",
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        md5="90528d7ca1a48142e341f4ef8d21d0de",
        folder="tiny-imagenet-200",
        members=re.compile(
            r"tiny-imagenet-200/(wnids\.txt|words\.txt|train/n\d{8}/images/n\d{8}_\d+\.JPEG|val/val_annotations\.txt|val/images/val_\d+\.JPEG)"
        ),
    ),
    wnids=WNIDS,
    train_images=500,
    test_images=50,
)
"""The published data set."""


@dataclass(frozen=True)
class TinyImageNetFolder:
    """A copy of the data set, complete or not. Every method raises `DataError` if a file cannot be read."""

    path: Path
    layout: Layout

    @property
    def train_path(self) -> Path:
        """The folder with one folder of training images per class."""
        return self.path / "train"

    @property
    def advice(self) -> str:
        """The part of an error message that says how to get a complete copy."""
        return f"remove {self.path} and {self.layout.archive.advice(self.path.parent)}"

    def list_train(self, wnids: tuple[str, ...]) -> LabeledPaths:
        """Return the training images: the first of each class, the second of each class, and so on.

        Raise `DataError` if a class has not all its images.
        """
        images_by_class = []
        for wnid in wnids:
            folder = self.train_path / wnid / "images"
            images = self._numbered(folder, re.compile(rf"{wnid}_(\d+)\.JPEG"))
            self._check_count(folder, wnid, len(images), self.layout.train_images)
            images_by_class.append(images)
        listing = []
        for turn in zip(*images_by_class):  # one image of each class
            for index, path in enumerate(turn):
                listing.append((path, index))
        return listing

    def list_validation(self, wnids: tuple[str, ...]) -> LabeledPaths:
        """Return the validation images in the order of their numbers; raise `DataError` if a class has not all its images."""
        folder = self.path / "val" / "images"
        annotations = self._annotations()
        indices = {wnid: index for index, wnid in enumerate(wnids)}
        listing = []
        for path in self._numbered(folder, re.compile(r"val_(\d+)\.JPEG")):
            wnid = annotations.get(path.name)
            if wnid in indices:
                listing.append((path, indices[wnid]))
        counts = Counter(index for _, index in listing)
        for wnid, index in indices.items():
            self._check_count(folder, wnid, counts[index], self.layout.test_images)
        return listing

    def classes_present(self) -> tuple[str, ...]:
        """Return the classes that have a folder of training images, in ascending order; raise `DataError` if there is none."""
        names = {path.name for path in self._entries(self.train_path)}
        present = tuple(wnid for wnid in self.layout.wnids if wnid in names)
        if not present:
            raise DataError(f"{self.train_path}: none of the {len(self.layout.wnids)} classes is there; {self.advice}")
        return present

    def check_classes(self, wnids: tuple[str, ...], *, named: bool) -> None:
        """Raise `DataError` if a class is missing; unless the user has `named` classes, say how to use those present."""
        present = self.classes_present()
        missing = [wnid for wnid in wnids if wnid not in present]
        if missing and named:
            names = _first_few(missing)
            raise DataError(
                f"{self.train_path}: {len(missing)} of the {len(wnids)} `wnids` are missing ({names}); {self.advice}"
            )
        if missing:
            raise DataError(
                f"{self.train_path}: {len(present)} of the {len(self.layout.wnids)} classes are there; to use these alone, "
                f"set the option `classes: present`; for all, {self.advice}"
            )

    def listing_digest(self, wnids: tuple[str, ...]) -> str:
        """Return the sha256, in hex, of the names, sizes and classes of all images of some classes."""
        digest = hashlib.sha256()
        for path, index in [*self.list_train(wnids), *self.list_validation(wnids)]:
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror}); {self.advice}") from None
            digest.update(f"{path.relative_to(self.path).as_posix()} {size} {wnids[index]}\n".encode())
        return digest.hexdigest()

    def _annotations(self) -> dict[str, str]:
        """Return the class of each validation image by file name: the first two columns of `val_annotations.txt`."""
        path = self.path / "val" / "val_annotations.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); {self.advice}") from None
        annotations = {}
        for line in lines:
            columns = line.split("\t")
            if len(columns) > 1:
                annotations[columns[0]] = columns[1]
        return annotations

    def _numbered(self, folder: Path, pattern: re.Pattern[str]) -> list[Path]:
        """Return the files of a folder whose name matches, in the order of the number in it."""
        numbered = []
        for path in self._entries(folder):
            match = pattern.fullmatch(path.name)
            if match:
                numbered.append((int(match[1]), path))
        return [path for _, path in sorted(numbered)]

    def _entries(self, folder: Path) -> list[Path]:
        try:
            return list(folder.iterdir())
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror or error}); {self.advice}") from None

    def _check_count(self, folder: Path, wnid: str, found: int, expected: int) -> None:
        if found != expected:
            raise DataError(f"{folder}: {found} images of class {wnid}, expected {expected}; {self.advice}")


def describe_difference(expected: tuple[str, ...], present: tuple[str, ...]) -> str:
    """Return the part of an error message that says which classes are missing and which are not expected."""
    missing = [wnid for wnid in expected if wnid not in present]
    unexpected = [wnid for wnid in present if wnid not in expected]
    parts = [f"{len(present)} classes are there, expected {len(expected)}"]
    if missing:
        parts.append(f"missing: {_first_few(missing)}")
    if unexpected:
        parts.append(f"not expected: {_first_few(unexpected)}")
    return "; ".join(parts)


def _first_few(wnids: list[str]) -> str:
    """Return the first three of a list, with an ellipsis if there are more."""
    text = ", ".join(wnids[:3])
    if len(wnids) > 3:
        text = f"{text}, …"
    return text
