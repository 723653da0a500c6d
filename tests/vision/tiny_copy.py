"""A small copy of Tiny ImageNet: three classes in the published layout, and the data set that expects no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness import DataError
from harness_vision.tiny_imagenet import TinyImageNet, TinyImageNetOptions
from harness_vision.tiny_imagenet_folder import OFFICIAL

WNIDS = ("n01443537", "n01629819", "n02085620")
TRAIN = 12
"""Training images per class."""

TEST = 2
"""Validation images per class."""

FOLDER = "tiny-imagenet-200"


class ThreeClassOptions(TinyImageNetOptions):
    """Options of a data set of three classes."""

    layout = replace(OFFICIAL, wnids=WNIDS, train_images=TRAIN, test_images=TEST)


class ThreeClasses(TinyImageNet):
    """Tiny ImageNet as if it had three classes."""

    name = "three_classes"
    Options = ThreeClassOptions


def write_copy(root: Path) -> Path:
    """Write a complete copy of the three classes under a data root, and return the root."""
    folder = root / FOLDER
    for wnid in WNIDS:
        for number in range(TRAIN):
            write_jpeg(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", wnid, number)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    rows = []
    for number, wnid in enumerate([WNIDS[2], WNIDS[0], WNIDS[1]] * TEST):
        write_jpeg(folder / "val" / "images" / f"val_{number}.JPEG", wnid, number)
        rows.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(rows)))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    return root


def write_jpeg(path: Path, wnid: str, number: int, size: tuple[int, int] = (64, 64)) -> None:
    """Write an image of one color that depends on its class and number; every third image is gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = color_of(wnid, number)
    if number % 3 == 0:
        Image.new("L", size, color[0]).save(path, "JPEG")
    else:
        Image.new("RGB", size, color).save(path, "JPEG", subsampling=0, quality=100)


def color_of(wnid: str, number: int) -> tuple[int, int, int]:
    """Return the color of an image, RGB."""
    gray = 40 * WNIDS.index(wnid) + 2 * number
    if number % 3 == 0:
        return (gray, gray, gray)
    return (gray, 200, 10)


def train_path(root: Path, wnid: str, number: int) -> Path:
    """Return the path of a training image."""
    return root / FOLDER / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"


def validation_path(root: Path, number: int) -> Path:
    """Return the path of a validation image."""
    return root / FOLDER / "val" / "images" / f"val_{number}.JPEG"


def remove_class(root: Path, wnid: str) -> None:
    """Move the training images of a class out of the copy."""
    (root / FOLDER / "train" / wnid).rename(root / f"removed-{wnid}")


def restore_class(root: Path, wnid: str) -> None:
    """Move the training images of a removed class back."""
    (root / f"removed-{wnid}").rename(root / FOLDER / "train" / wnid)


def append_byte(path: Path) -> None:
    """Change the size of a file; the image in it stays the same."""
    with path.open("ab") as file:
        file.write(b"\0")


def options(**values: Any) -> ThreeClassOptions:
    """Return checked options."""
    return ThreeClassOptions.model_validate(values)


def load(root: Path, **values: Any) -> tuple[Any, Any]:
    """Load the data set with options."""
    return ThreeClasses(options(**values)).load(root)


def present(root: Path, **values: Any) -> TinyImageNet:
    """Return the data set of the classes that a root holds."""
    return ThreeClasses(options(classes="present", **values)).located(root)


def load_error(root: Path, **values: Any) -> str:
    """Return the message, one line, with which loading fails."""
    with pytest.raises(DataError) as caught:
        load(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def present_error(root: Path, **values: Any) -> str:
    """Return the message, one line, with which locating the classes of a root fails."""
    with pytest.raises(DataError) as caught:
        present(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def advice(root: Path) -> str:
    """Return the end of the messages about an incomplete copy."""
    return (
        f"remove {root / FOLDER} and put tiny-imagenet-200.zip (md5 {OFFICIAL.archive.md5}) "
        f"from http://cs231n.stanford.edu/tiny-imagenet-200.zip into {root}"
    )
