"""Digits: what it holds, that its split is fixed and stratified, that its constants are true."""

from __future__ import annotations

from pathlib import Path

import pytest
import sklearn.datasets
import torch

from harness import DataError
from harness_vision.digits import Digits, DigitsOptions, draw_split

NOWHERE = Path("nowhere")


def test_splits() -> None:
    """1,437 and 360 gray images, uint8 over the whole range, every class in both; no image in two."""
    train, test = Digits().load(NOWHERE)
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.images.unique().tolist() == [(v * 255 + 8) // 16 for v in range(17)]
    total = train.labels.bincount() + test.labels.bincount()
    assert (test.labels.bincount() - total / 5).abs().max() < 1


def test_holds_scikit_learns_images() -> None:
    """Both splits together are the 1,797 images with their labels, each once."""
    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    theirs = sorted((*map(int, image), int(label)) for image, label in zip(pixels, targets))
    ours = [
        (*(split.images[i].flatten() * (16 / 255)).round().int().tolist(), int(split.labels[i]))
        for split in Digits().load(NOWHERE)
        for i in range(len(split))
    ]
    assert sorted(ours) == theirs


def test_split_depends_on_labels_alone() -> None:
    """No generator has a say."""
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
    """Mean and standard deviation of the training images, to four digits."""
    dataset = Digits()
    x = dataset.load(NOWHERE)[0].images.double() / 255
    assert dataset.normalization == ((round(x.mean().item(), 4),), (round(x.std(correction=0).item(), 4),))


def test_first_images() -> None:
    """`train_size` and `test_size` cut from the front, and are part of the identity."""
    dataset = Digits(DigitsOptions(train_size=100, test_size=10))
    train, test = dataset.load(NOWHERE)
    whole_train, whole_test = Digits().load(NOWHERE)
    assert dataset.train_size == len(train) == 100
    assert torch.equal(train.images, whole_train.images[:100])
    assert torch.equal(test.labels, whole_test.labels[:10])
    assert dataset.identity != Digits().identity
    assert train.labels.bincount().min() >= 5  # in random order: a fair sample


@pytest.mark.parametrize(("option", "value"), [("train_size", 1438), ("test_size", 361), ("train_size", 0)])
def test_more_than_there_are(option: str, value: int) -> None:
    """Bounds are checked with the benchmark file."""
    with pytest.raises(ValueError, match=option):
        DigitsOptions.model_validate({option: value})


def test_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are not the ones of the fingerprint are refused, with both digests."""
    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    pixels[0, 0] = 16
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: (pixels, targets))
    with pytest.raises(DataError) as caught:
        Digits().load(NOWHERE)
    assert str(caught.value).startswith("digits: scikit-learn holds other images: sha256:")
    assert str(caught.value).endswith(f", expected {Digits.fingerprint}; reinstall it")
