"""`tiny_imagenet`, from the official folder of JPEGs (Le and Yang 2015). Decoding and its cache are in `pictures.py`.

The published test images have no labels: as everywhere in the literature, the validation images are the test split.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from harness import DataError, Dataset, Options, Split
from harness_vision.archives import Archive, provide
from harness_vision.tiny_imagenet_classes import WNIDS

TRAIN_IMAGES, TEST_IMAGES = 500, 50
"""Images of each class."""

ARCHIVE = Archive(
    filename="tiny-imagenet-200.zip",
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    folder="tiny-imagenet-200",
    members=re.compile(
        r"tiny-imagenet-200/(wnids\.txt|words\.txt|train/n\d{8}/images/n\d{8}_\d+\.JPEG|val/val_annotations\.txt|val/images/val_\d+\.JPEG)"
    ),
)

Listing = list[tuple[Path, int]]
"""Pictures with the index of their class."""


class TinyImageNetOptions(Options):
    """How much of Tiny ImageNet to use."""

    train_size: int | None = Field(
        None, ge=1, description="the first n training images, classes by turns; null: all 500 of each"
    )
    test_size: int | None = Field(None, ge=1, description="the first n validation images; null: all 50 of each class")
    wnids: tuple[str, ...] | None = Field(
        None, min_length=2, description="WordNet numbers of the classes to use, for a partial copy; null: the official 200"
    )

    @field_validator("wnids", mode="before")
    @classmethod
    def _list_is_fine(cls, wnids: Any) -> Any:
        return tuple(wnids) if isinstance(wnids, list) else wnids

    @field_validator("wnids")
    @classmethod
    def _known_and_sorted(cls, wnids: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Sort them, so that one choice of classes has one key; all 200 are the same as null."""
        if wnids is None:
            return None
        for wnid in wnids:
            if wnid not in WNIDS:
                near = difflib.get_close_matches(wnid, WNIDS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "; they look like 'n01443537'"
                raise ValueError(f"'{wnid}' is none of the {len(WNIDS)} classes of Tiny ImageNet{hint}")
            if wnids.count(wnid) > 1:
                raise ValueError(f"'{wnid}' is named {wnids.count(wnid)} times; name each class once")
        return None if len(wnids) == len(WNIDS) else tuple(sorted(wnids))

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> TinyImageNetOptions:
        classes = len(self.wnids or WNIDS)
        for name, wanted, there in (
            ("train_size", self.train_size, classes * TRAIN_IMAGES),
            ("test_size", self.test_size, classes * TEST_IMAGES),
        ):
            if wanted is not None and wanted > there:
                raise ValueError(f"{name} is {wanted}, but {classes} classes have {there} images; at most that many, or null")
        return self


class TinyImageNet(Dataset):
    """Tiny ImageNet: 200 classes with 500 training and 50 validation images each, 64×64.

    Training images come class by turns (the first of each, the second of each, …), so the first n are a fair sample. Class
    indices follow the WordNet numbers in ascending order, within `wnids` if some are named.
    """

    name, version = "tiny_imagenet", 1
    Options = TinyImageNetOptions
    shape = (3, 64, 64)
    fingerprint = f"{ARCHIVE.filename}:{ARCHIVE.md5}"
    normalisation = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)

    @property
    def wnids(self) -> tuple[str, ...]:
        """The WordNet number of each class, in order of index."""
        return self.options.wnids or WNIDS

    @property
    def classes(self) -> int:
        """200, or as many as the options name."""
        return len(self.wnids)

    @property
    def train_size(self) -> int:
        """500 for each class, or as many as the options say."""
        return self.options.train_size or TRAIN_IMAGES * self.classes

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return training and validation images, decoded, or from the cache that an earlier decoding left under the root."""
        from harness_vision.pictures import load_pictures

        folder = provide(ARCHIVE, root)
        _check_classes(folder, self.wnids, named=self.options.wnids is not None)
        train = list_train(folder, self.wnids)[: self.options.train_size]
        test = list_validation(folder, self.wnids)[: self.options.test_size]
        return load_pictures(folder, train, test, self.shape)


def list_train(folder: Path, wnids: tuple[str, ...]) -> Listing:
    """Return the training images, classes by turns; refuse a class that has not all its images."""
    of_class = []
    for wnid in wnids:
        place = folder / "train" / wnid / "images"
        pictures = _numbered(folder, place, re.compile(rf"{wnid}_(\d+)\.JPEG"))
        _check_count(folder, place, wnid, len(pictures), TRAIN_IMAGES)
        of_class.append(pictures)
    return [(path, index) for turn in zip(*of_class) for index, path in enumerate(turn)]


def list_validation(folder: Path, wnids: tuple[str, ...]) -> Listing:
    """Return the validation images in the order of their numbers; refuse a class that has not all its images."""
    place, class_of = folder / "val" / "images", _annotations(folder)
    index = {wnid: i for i, wnid in enumerate(wnids)}
    pictures = _numbered(folder, place, re.compile(r"val_(\d+)\.JPEG"))
    listing = [(path, index[class_of[path.name]]) for path in pictures if class_of.get(path.name) in index]
    count = Counter(i for _, i in listing)
    for wnid, i in index.items():
        _check_count(folder, place, wnid, count[i], TEST_IMAGES)
    return listing


def _annotations(folder: Path) -> dict[str, str]:
    """Return the class of every validation image: the first two columns of `val_annotations.txt`."""
    path = folder / "val" / "val_annotations.txt"
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_again(folder)}") from None
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _numbered(folder: Path, place: Path, name: re.Pattern[str]) -> list[Path]:
    """Return the pictures whose name fits, in the order of the number in it."""
    fits = [(name.fullmatch(path.name), path) for path in _entries(folder, place)]
    return [path for _, path in sorted((int(fit[1]), path) for fit, path in fits if fit)]


def _entries(folder: Path, place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or error}); {_again(folder)}") from None


def _check_classes(folder: Path, wnids: tuple[str, ...], *, named: bool) -> None:
    """Refuse a copy that lacks classes; if none were named, say how to."""
    place = folder / "train"
    found = {path.name for path in _entries(folder, place)}
    here = [wnid for wnid in WNIDS if wnid in found]
    missing = [wnid for wnid in wnids if wnid not in here]
    if missing and named:
        raise DataError(f"{place}: {len(missing)} of the {len(wnids)} `wnids` are missing ({_few(missing)}); {_again(folder)}")
    if not here:
        raise DataError(f"{place}: none of the {len(WNIDS)} classes is there; {_again(folder)}")
    if missing:
        raise DataError(
            f"{place}: {len(here)} of the {len(WNIDS)} classes are there; to use these alone, name them with the "
            f"option `wnids: [{_few(here)}]`; for all, {_again(folder)}"
        )


def _check_count(folder: Path, place: Path, wnid: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{place}: {found} images of class {wnid}, expected {expected}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"remove {folder} and {ARCHIVE.advice(folder.parent)}"


def _few(wnids: list[str]) -> str:
    return ", ".join(wnids[:3]) + (", …" if len(wnids) > 3 else "")
