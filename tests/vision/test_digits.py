"""Digits: its images, its fixed and stratified split, its constants."""

from __future__ import annotations

from pathlib import Path

import pytest
import sklearn.datasets
import torch

from harness import DataError
from harness.testing import check_dataset
from harness_vision.digits import Digits, DigitsOptions, draw_split

NO_ROOT = Path("nowhere")


def test_splits() -> None:
    """There are 1,437 and 360 gray uint8 images over the whole range, and a fifth of each class is for testing."""
    train, test = Digits().load(NO_ROOT)
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.images.unique().tolist() == [(v * 255 + 8) // 16 for v in range(17)]
    total = train.labels.bincount() + test.labels.bincount()
    assert (test.labels.bincount() - total / 5).abs().max() < 1


def test_images_are_those_of_scikit_learn() -> None:
    """Both splits together hold each of the 1,797 images once, with its label."""
    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    theirs = sorted((*map(int, image), int(label)) for image, label in zip(pixels, targets))
    ours = []
    for split in Digits().load(NO_ROOT):
        rescaled = (split.images.flatten(1) * (16 / 255)).round().int()
        for image, label in zip(rescaled.tolist(), split.labels.tolist()):
            ours.append((*image, label))
    assert sorted(ours) == theirs


def test_split_depends_on_labels_alone() -> None:
    """The global random generator has no effect."""
    labels = torch.arange(50) % 5
    torch.manual_seed(0)
    first = draw_split(labels)
    torch.manual_seed(1)
    again = draw_split(labels)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    train, test = first
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(50))
    assert labels[test].bincount().tolist() == [2] * 5


def test_normalization() -> None:
    """It is the mean and standard deviation of the training images, to four digits."""
    dataset = Digits()
    x = dataset.load(NO_ROOT)[0].images.double() / 255
    assert dataset.normalization == ((round(x.mean().item(), 4),), (round(x.std(correction=0).item(), 4),))


def test_first_images() -> None:
    """`train_size` and `test_size` keep the first images, and are part of the identity."""
    dataset = Digits(DigitsOptions(train_size=100, test_size=10))
    train, test = dataset.load(NO_ROOT)
    whole_train, whole_test = Digits().load(NO_ROOT)
    assert dataset.train_size == len(train) == 100
    assert torch.equal(train.images, whole_train.images[:100])
    assert torch.equal(test.labels, whole_test.labels[:10])
    assert dataset.identity != Digits().identity
    assert train.labels.bincount().min() >= 5  # images are in random order


@pytest.mark.parametrize(("option", "value"), [("train_size", 1438), ("test_size", 361), ("train_size", 0)])
def test_size_out_of_range(option: str, value: int) -> None:
    """The option is refused."""
    with pytest.raises(ValueError, match=option):
        DigitsOptions.model_validate({option: value})


def test_images_of_another_fingerprint() -> None:
    """They are refused, and the message has both digests."""

    class OtherDigits(Digits):
        fingerprint = "sha256:0"

    with pytest.raises(DataError) as caught:
        OtherDigits().load(NO_ROOT)
    assert str(caught.value) == (
        f"digits: scikit-learn holds other images: {Digits.fingerprint}, expected sha256:0; reinstall it"
    )


def test_held_out_images(tmp_path: Path) -> None:
    """With a smaller `train_size`, the rest of the training images is a split that no network is trained on."""
    whole, _ = Digits().load(tmp_path)
    part = Digits(DigitsOptions(train_size=1000))
    assert part.evaluation_splits == ("held_out",)
    train, _ = part.load(tmp_path)
    held_out = part.load_split("held_out", tmp_path)
    assert (len(train), len(held_out)) == (1000, 437)
    assert torch.equal(torch.cat([train.images, held_out.images]), whole.images)
    assert torch.equal(torch.cat([train.labels, held_out.labels]), whole.labels)
    assert Digits().evaluation_splits == ()
    check_dataset(part, tmp_path)
