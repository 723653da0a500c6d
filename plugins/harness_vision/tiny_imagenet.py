"""`tiny_imagenet`, from the official folder of JPEGs (Le and Yang 2015). Decoding and its cache are in `pictures.py`.

The published test images have no labels: as everywhere in the literature, the validation images are the test split.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

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

    classes: Literal["official", "present"] = Field(
        "official", description="present: those that are under the data root, for a partial copy; official: all 200, or `wnids`"
    )
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
    def _known_and_sorted(cls, wnids: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        """Sort them, so that one choice of classes has one key; all 200 are the same as null, the official classes."""
        if wnids is None:
            return None
        for wnid in wnids:
            if wnid not in WNIDS:
                near = difflib.get_close_matches(wnid, WNIDS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "; they look like 'n01443537'"
                raise ValueError(f"'{wnid}' is none of the {len(WNIDS)} classes of Tiny ImageNet{hint}")
            if wnids.count(wnid) > 1:
                raise ValueError(f"'{wnid}' is named {wnids.count(wnid)} times; name each class once")
        official = info.data.get("classes") == "official" and len(wnids) == len(WNIDS)
        return None if official else tuple(sorted(wnids))

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> TinyImageNetOptions:
        if self.classes == "present" and self.wnids is None:
            return self  # their number is known where the data is
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
    indices follow the WordNet numbers in ascending order, within those that are used.

    With `classes: present`, `located` returns a data set whose `wnids` are the classes found, and whose fingerprint is a digest
    of the listing of their pictures; a root with all 200 classes is the official data set.
    """

    name, version = "tiny_imagenet", 1
    Options = TinyImageNetOptions
    shape = (3, 64, 64)
    normalization = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)

    _listing = ""  # of a data set that was located with `classes: present`: a digest of what was found

    def located(self, root: Path) -> TinyImageNet:
        """Return itself, or with `classes: present` the data set of the classes that are under the root."""
        if self.options.classes == "official":
            return self
        folder = provide(ARCHIVE, root)
        here = _classes_present(folder)
        if self.options.wnids not in (None, here):
            raise DataError(f"{folder / 'train'}: {_difference(self.options.wnids, here)}; {_again(folder)}")
        if len(here) == 1:
            raise DataError(f"{folder / 'train'}: only 1 of the {len(WNIDS)} classes is there, at least 2; {_again(folder)}")
        choice = {"classes": "official"} if here == WNIDS else {"classes": "present", "wnids": here}
        try:
            options = TinyImageNetOptions.model_validate({**self.options.model_dump(), "wnids": None, **choice})
        except ValidationError as error:
            raise DataError(f"{folder / 'train'}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        found = type(self)(options)
        if here != WNIDS:
            found._listing = _listing_digest(folder, here)
        return found

    @property
    def fingerprint(self) -> str:
        """The published archive's md5; of the classes found under a root, the digest of the listing of their pictures."""
        if self.options.classes == "official":
            return f"{ARCHIVE.filename}:{ARCHIVE.md5}"
        return f"{ARCHIVE.folder}:present:{self._listing}"

    @property
    def wnids(self) -> tuple[str, ...]:
        """The WordNet number of each class, in order of index; raise `DataError` if only the data root can tell."""
        if self.options.classes == "present" and self.options.wnids is None:
            raise DataError(
                f"{self.name}: with `classes: present`, the classes are known once the data set is located in a root"
            )
        return self.options.wnids or WNIDS

    @property
    def num_classes(self) -> int:
        """200, or as many as are used."""
        return len(self.wnids)

    @property
    def train_size(self) -> int:
        """500 for each class, or as many as the options say."""
        return self.options.train_size or TRAIN_IMAGES * self.num_classes

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


def _classes_present(folder: Path) -> tuple[str, ...]:
    """Return the classes that have a folder of training images, in order; refuse a copy that has none."""
    place = folder / "train"
    found = {path.name for path in _entries(folder, place)}
    here = tuple(wnid for wnid in WNIDS if wnid in found)
    if not here:
        raise DataError(f"{place}: none of the {len(WNIDS)} classes is there; {_again(folder)}")
    return here


def _check_classes(folder: Path, wnids: tuple[str, ...], *, named: bool) -> None:
    """Refuse a copy that lacks classes; if none were named, say how to use those that are there."""
    here = _classes_present(folder)
    missing = [wnid for wnid in wnids if wnid not in here]
    if missing and named:
        raise DataError(
            f"{folder / 'train'}: {len(missing)} of the {len(wnids)} `wnids` are missing ({_few(missing)}); {_again(folder)}"
        )
    if missing:
        raise DataError(
            f"{folder / 'train'}: {len(here)} of the {len(WNIDS)} classes are there; to use these alone, set the option "
            f"`classes: present`; for all, {_again(folder)}"
        )


def _difference(expected: tuple[str, ...], here: tuple[str, ...]) -> str:
    """Say in what the classes that are there differ from those expected."""
    missing = [wnid for wnid in expected if wnid not in here]
    more = [wnid for wnid in here if wnid not in expected]
    parts = [f"{len(here)} classes are there, expected {len(expected)}"]
    if missing:
        parts.append(f"missing: {_few(missing)}")
    if more:
        parts.append(f"not expected: {_few(more)}")
    return "; ".join(parts)


def _listing_digest(folder: Path, wnids: tuple[str, ...]) -> str:
    """Return a digest of the names, sizes and classes of all pictures of some classes."""
    digest = hashlib.sha256()
    for path, index in (*list_train(folder, wnids), *list_validation(folder, wnids)):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); {_again(folder)}") from None
        digest.update(f"{path.relative_to(folder).as_posix()} {size} {wnids[index]}\n".encode())
    return digest.hexdigest()


def _check_count(folder: Path, place: Path, wnid: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{place}: {found} images of class {wnid}, expected {expected}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"remove {folder} and {ARCHIVE.advice(folder.parent)}"


def _few(wnids: list[str]) -> str:
    return ", ".join(wnids[:3]) + (", …" if len(wnids) > 3 else "")
