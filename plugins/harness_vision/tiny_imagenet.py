"""`tiny_imagenet`, from the official folder of JPEG files (Le and Yang 2015).

`tiny_imagenet_folder.py` lists the folder; `pictures.py` decodes its images and caches the pixels. The published test
images have no labels: as in the literature, the validation images are the test split.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from harness import DataError, Dataset, Options, Split
from harness_vision.archives import provide
from harness_vision.tiny_imagenet_folder import OFFICIAL, Layout, TinyImageNetFolder, describe_difference


class TinyImageNetOptions(Options):
    """Classes and numbers of images of Tiny ImageNet to use."""

    layout: ClassVar[Layout] = OFFICIAL
    """The classes and images that a complete copy holds."""

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
    def _accept_list(cls, wnids: Any) -> Any:
        if isinstance(wnids, list):
            return tuple(wnids)
        return wnids

    @field_validator("wnids")
    @classmethod
    def _check_and_sort(cls, wnids: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        """Sort the classes, so that each choice has one key; replace the list of all official classes by null."""
        if wnids is None:
            return None
        for wnid in wnids:
            cls._check_wnid(wnid, wnids.count(wnid))
        if info.data.get("classes") == "official" and len(wnids) == len(cls.layout.wnids):
            return None
        return tuple(sorted(wnids))

    @classmethod
    def _check_wnid(cls, wnid: str, count: int) -> None:
        """Raise `ValueError` if a class is unknown or named several times."""
        known = cls.layout.wnids
        if wnid not in known:
            near = difflib.get_close_matches(wnid, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "they look like 'n01443537'"
            raise ValueError(f"'{wnid}' is none of the {len(known)} classes of Tiny ImageNet; {hint}")
        if count > 1:
            raise ValueError(f"'{wnid}' is named {count} times; name each class once")

    @model_validator(mode="after")
    def _check_sizes(self) -> TinyImageNetOptions:
        """Refuse sizes above the number of images of the classes."""
        if self.classes == "present" and self.wnids is None:
            return self  # the number of classes is known once the data is located
        count = len(self.wnids or self.layout.wnids)
        for name, size, available in (
            ("train_size", self.train_size, count * self.layout.train_images),
            ("test_size", self.test_size, count * self.layout.test_images),
        ):
            if size is not None and size > available:
                raise ValueError(f"{name} is {size}, but {count} classes have {available} images; at most that many, or null")
        return self


class TinyImageNet(Dataset):
    """Tiny ImageNet: 200 classes with 500 training and 50 validation images each, 64×64.

    Training images alternate between the classes (the first of each, the second of each, …), so the first n are balanced. Class
    indices follow the ascending WordNet numbers of the classes in use.

    With `classes: present`, `located` returns a data set whose `wnids` are the classes found, and whose fingerprint is a digest
    of the listing of their images. A root with all 200 classes gives the official data set.
    """

    name, version = "tiny_imagenet", 1
    Options = TinyImageNetOptions
    shape = (3, 64, 64)
    normalization = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)

    _listing_digest = ""  # of the classes found, after `located` with `classes: present`

    def located(self, root: Path) -> TinyImageNet:
        """Return itself, or with `classes: present` the data set of the classes under the data root.

        Raise `DataError` if the root holds fewer than two classes, other classes than `wnids`, or classes without all images.
        """
        if self.options.classes == "official":
            return self
        folder = self._folder(root)
        present = folder.classes_present()
        official: tuple[str, ...] = self.options.layout.wnids
        if self.options.wnids not in (None, present):
            raise DataError(f"{folder.train_path}: {describe_difference(self.options.wnids, present)}; {folder.advice}")
        if len(present) == 1:
            raise DataError(f"{folder.train_path}: only 1 of the {len(official)} classes is there, at least 2; {folder.advice}")
        choice: dict[str, Any] = {"classes": "present", "wnids": present}
        if present == official:
            choice = {"classes": "official", "wnids": None}
        try:
            options = self.Options.model_validate({**self.options.model_dump(), **choice})
        except ValidationError as error:
            raise DataError(f"{folder.train_path}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        found = type(self)(options)
        if present != official:
            found._listing_digest = folder.listing_digest(present)
        return found

    @property
    def fingerprint(self) -> str:
        """The md5 of the published archive; of the classes found under a root, the digest of the listing of their images."""
        archive = self.options.layout.archive
        if self.options.classes == "official":
            return f"{archive.filename}:{archive.md5}"
        return f"{archive.folder}:present:{self._listing_digest}"

    @property
    def wnids(self) -> tuple[str, ...]:
        """The WordNet number of each class, in the order of class indices.

        Raise `DataError` with `classes: present` before `located`: only the data root says which classes there are.
        """
        if self.options.classes == "present" and self.options.wnids is None:
            raise DataError(
                f"{self.name}: with `classes: present`, the classes are known once the data set is located in a root"
            )
        return self.options.wnids or self.options.layout.wnids

    @property
    def num_classes(self) -> int:
        """200, or the number of classes in use."""
        return len(self.wnids)

    @property
    def train_size(self) -> int:
        """500 per class, or the option `train_size`."""
        return self.options.train_size or self.options.layout.train_images * self.num_classes

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the validation images, decoded, or read from the cache under the data root."""
        from harness_vision.pictures import load_pictures

        folder = self._folder(root)
        folder.check_classes(self.wnids, named=self.options.wnids is not None)
        train = folder.list_train(self.wnids)[: self.options.train_size]
        test = folder.list_validation(self.wnids)[: self.options.test_size]
        return load_pictures(folder.path, train, test, self.shape)

    def _folder(self, root: Path) -> TinyImageNetFolder:
        """Return the folder under the data root; unpack or download the archive if it is missing."""
        layout: Layout = self.options.layout
        return TinyImageNetFolder(provide(layout.archive, root), layout)
