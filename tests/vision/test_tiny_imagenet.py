"""Tiny ImageNet from folders of JPEG files: what is loaded, from which archive, with which options."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness_vision.tiny_imagenet import TinyImageNet, TinyImageNetOptions
from harness_vision.tiny_imagenet_classes import WNIDS as OFFICIAL_WNIDS
from vision.tiny_copy import (
    FOLDER,
    TEST,
    TRAIN,
    WNIDS,
    ThreeClasses,
    ThreeClassOptions,
    color_of,
    load,
    load_error,
    options,
    train_path,
    validation_path,
)


def test_pictures_and_labels(tiny: Path) -> None:
    """Training images alternate between classes, validation images follow their numbers; all have their colors."""
    train, test = load(tiny)
    assert train.images.shape == (3 * TRAIN, 3, 64, 64)
    assert train.images.dtype == torch.uint8
    assert train.labels.tolist() == [0, 1, 2] * TRAIN
    assert test.labels.tolist() == [2, 0, 1] * TEST
    assert train.labels.dtype == torch.int64
    train_numbers = [i // 3 for i in range(3 * TRAIN)]
    for split, numbers in ((train, train_numbers), (test, range(3 * TEST))):
        for image, label, number in zip(split.images, split.labels.tolist(), numbers):
            expected = torch.tensor(color_of(WNIDS[label], number)).view(3, 1, 1)
            assert (image.int() - expected).abs().max() <= 2, (label, number)  # JPEG is lossy


def test_pixels_are_those_of_pillow(tiny: Path) -> None:
    """Images equal `Image.open(…).convert("RGB")` pixel by pixel, rows and columns in place."""
    path = train_path(tiny, WNIDS[0], 0)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, "JPEG")
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(load(tiny)[0].images[0].permute(1, 2, 0).numpy(), expected)


def test_first_images(tiny: Path) -> None:
    """The first n images are balanced over classes, and no others are decoded."""
    train_path(tiny, WNIDS[0], TRAIN - 1).write_bytes(b"damaged")
    dataset = ThreeClasses(options(train_size=7, test_size=2))
    train, test = dataset.load(tiny)
    assert dataset.train_size == 7
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert test.labels.tolist() == [2, 0]


def test_named_classes(tiny: Path) -> None:
    """Only the named classes are loaded, in ascending order whatever their order in the file, under another identity."""
    dataset = ThreeClasses(options(wnids=[WNIDS[2], WNIDS[0]]))
    train, test = dataset.load(tiny)
    assert (dataset.num_classes, dataset.train_size, dataset.wnids) == (2, 2 * TRAIN, (WNIDS[0], WNIDS[2]))
    assert train.labels.tolist() == [0, 1] * TRAIN
    assert test.labels.tolist() == [1, 0] * TEST
    assert dataset.identity == ThreeClasses(options(wnids=[WNIDS[0], WNIDS[2]])).identity
    assert dataset.identity != ThreeClasses().identity
    assert options(wnids=list(WNIDS)) == options()


# Damaged copies


@pytest.mark.parametrize("content", [b"", b"GIF89a", "truncated"])
def test_damaged_picture(tiny: Path, content: bytes | str) -> None:
    """The message names the file, and no cache is written."""
    path = train_path(tiny, WNIDS[1], 4)
    if isinstance(content, str):
        content = path.read_bytes()[:-200]
    path.write_bytes(content)
    message = load_error(tiny)
    assert message.startswith(f"{path}: damaged or no JPEG (")
    assert message.endswith("); unpack the archive again")
    assert list(tiny.glob("*.safetensors")) == []


def test_picture_of_another_size(tiny: Path) -> None:
    """The message names the file and both sizes."""
    path = validation_path(tiny, 1)
    Image.new("RGB", (32, 64)).save(path, "JPEG")
    assert load_error(tiny) == f"{path}: 32×64 pixels, expected 64×64"


# Archive


def test_archive_is_unpacked(tiny: Path, tmp_path: Path) -> None:
    """The zip file alone is enough; the unlabeled test images are not unpacked."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    archive = root / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tiny / FOLDER).rglob("*")):
            file.write(path, path.relative_to(tiny))
        file.writestr(f"{FOLDER}/test/images/test_0.JPEG", b"")
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    published = ThreeClassOptions.layout

    class ZippedOptions(ThreeClassOptions):
        layout = replace(published, archive=replace(published.archive, md5=md5))

    train, _ = ThreeClasses(ZippedOptions()).load(root)
    assert torch.equal(train.images, load(tiny)[0].images)
    assert sorted(path.name for path in (root / FOLDER).iterdir()) == ["train", "val", "wnids.txt"]


def test_no_data_and_no_network(tmp_path: Path) -> None:
    """The message, one line, says which file to put into which folder, and where to get it."""
    root = tmp_path / "empty"
    assert load_error(root) == (
        f"{root / FOLDER}: not there, and the download failed (no network in tests); "
        f"put tiny-imagenet-200.zip (md5 90528d7ca1a48142e341f4ef8d21d0de) from "
        f"http://cs231n.stanford.edu/tiny-imagenet-200.zip into {root}"
    )


# Options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"wnids": ["n01443537", "n01629818"]},
            "'n01629818' is none of the 3 classes of Tiny ImageNet; did you mean 'n01629819'",
        ),
        (
            {"wnids": ["n01443537", "goldfish"]},
            "'goldfish' is none of the 3 classes of Tiny ImageNet; they look like 'n01443537'",
        ),
        ({"wnids": ["n01443537", "n01443537"]}, "'n01443537' is named 2 times; name each class once"),
        ({"wnids": ["n01443537"]}, "wnids"),
        ({"train_size": 37}, "train_size is 37, but 3 classes have 36 images; at most that many, or null"),
        ({"test_size": 5, "wnids": WNIDS[:2]}, "test_size is 5, but 2 classes have 4 images; at most that many, or null"),
        ({"train_size": 0}, "train_size"),
    ],
)
def test_wrong_options(values: dict[str, Any], message: str) -> None:
    """The message says what is wrong and what is allowed."""
    with pytest.raises(ValueError, match=message):
        options(**values)


def test_facts_known_before_loading() -> None:
    """A plan needs no data: 200 classes of 500 images each, and the published md5."""
    dataset = TinyImageNet()
    assert (dataset.shape, dataset.num_classes, dataset.train_size) == ((3, 64, 64), 200, 100_000)
    assert dataset.fingerprint == "tiny-imagenet-200.zip:90528d7ca1a48142e341f4ef8d21d0de"
    assert len(set(OFFICIAL_WNIDS)) == len(OFFICIAL_WNIDS) == 200
    assert list(OFFICIAL_WNIDS) == sorted(OFFICIAL_WNIDS)


def test_real_data(real_data: Callable[[str], Path]) -> None:
    """The classes of a real copy are complete, 64×64, and have about the mean and deviation of the normalization."""
    root = real_data(FOLDER)
    present = [wnid for wnid in OFFICIAL_WNIDS if (root / FOLDER / "train" / wnid).is_dir()]
    dataset = TinyImageNet(TinyImageNetOptions.model_validate({"wnids": present}))
    train, test = dataset.load(root)
    assert set(train.labels.bincount().tolist()) == {500}
    assert set(test.labels.bincount().tolist()) == {50}
    pixels = train.images.transpose(0, 1).flatten(1).double() / 255
    mean, std = dataset.normalization
    tolerance = 1e-4 if len(present) == 200 else 0.03
    assert pixels.mean(1).tolist() == pytest.approx(mean, abs=tolerance)
    assert pixels.std(1, correction=0).tolist() == pytest.approx(std, abs=tolerance)
