"""CIFAR from official batches: tiny ones written here in the published format, and the real ones where they are."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import DataError
from harness_vision.cifar import Cifar10, Cifar100, CifarOptions, PythonBatches

CIFARS = [Cifar10, Cifar100]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def batch(cls: type[PythonBatches], seed: int, n: int = 6) -> bytes:
    """Return a batch in the published format: pixels channel by channel, row by row; labels as lists."""
    rng = np.random.default_rng(seed)
    content = {
        "batch_label": f"batch {seed}",
        "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        cls.label_key: rng.integers(0, 10, n).tolist(),
        "filenames": [f"{i}.png" for i in range(n)],
    }
    if cls is Cifar100:
        content["coarse_labels"] = [0] * n
    return pickle.dumps(content, protocol=2)


@pytest.fixture(params=CIFARS, ids=lambda cls: cls.name)
def cifar(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[PythonBatches]:
    """Lay out tiny batches under `tmp_path / "data"` and let the class know their md5 sums, and that of their archive."""
    cls: type[PythonBatches] = request.param
    folder = tmp_path / "data" / cls.archive.folder
    folder.mkdir(parents=True)
    files = {name: batch(cls, seed) for seed, name in enumerate([*cls.train_files, *cls.test_files])}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(cls, "train_files", {name: md5(files[name]) for name in cls.train_files})
    monkeypatch.setattr(cls, "test_files", {name: md5(files[name]) for name in cls.test_files})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, cls.archive.folder)
    (tmp_path / cls.archive.filename).write_bytes(packed.getvalue())
    monkeypatch.setattr(cls, "archive", replace(cls.archive, md5=md5(packed.getvalue())))
    return cls


def refusal(dataset: PythonBatches, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        dataset.load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pixels_and_labels(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """In the order of the files; a row of the file is a picture, red plane first."""
    train, test = cifar().load(tmp_path / "data")
    batches = [pickle.loads(batch(cifar, seed)) for seed in range(len(cifar.train_files) + 1)]
    assert train.images.shape == (6 * len(cifar.train_files), 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert train.images[:6].flatten(1).tolist() == batches[0]["data"].tolist()
    assert train.labels.tolist() == [label for b in batches[:-1] for label in b[cifar.label_key]]
    assert train.labels.dtype == torch.int64
    assert test.images.flatten(1).tolist() == batches[-1]["data"].tolist()


def test_first_images(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """`train_size` and `test_size` cut from the front, hold nothing else in memory and are part of the identity."""
    dataset = cifar(CifarOptions(train_size=4, test_size=2))
    train, test = dataset.load(tmp_path / "data")
    whole, _ = cifar().load(tmp_path / "data")
    assert (dataset.train_size, len(train), len(test)) == (4, 4, 2)
    assert torch.equal(train.images, whole.images[:4])
    assert train.images.untyped_storage().nbytes() == 4 * 3072
    assert dataset.identity["options"] == {"train_size": 4, "test_size": 2}


def test_unpacks_the_archive(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """The archive alone is enough."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    os.link(tmp_path / cifar.archive.filename, root / cifar.archive.filename)
    train, _ = cifar().load(root)
    assert torch.equal(train.images, cifar().load(tmp_path / "data")[0].images)


def test_damaged_file(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """A truncated batch is not opened; the line names the file, both md5 sums and the archive to put where."""
    name, expected = next(iter(cifar.test_files.items()))
    folder = tmp_path / "data" / cifar.archive.folder
    short = (folder / name).read_bytes()[:-1]
    (folder / name).write_bytes(short)
    assert refusal(cifar(), tmp_path / "data") == (
        f"{folder / name}: damaged or not the published file: md5 {md5(short)}, expected {expected}; remove {folder} and put "
        f"{cifar.archive.filename} (md5 {cifar.archive.md5}) from {cifar.archive.url} into {tmp_path / 'data'}"
    )


def test_hostile_pickle_is_not_opened(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """Code in a file that is not the published one does not run."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    (tmp_path / "data" / cifar.archive.folder / next(iter(cifar.train_files))).write_bytes(pickle.dumps(Hostile()))
    assert "damaged or not the published file" in refusal(cifar(), tmp_path / "data")
    assert not (tmp_path / "pwned").exists()


def test_missing_file(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """A folder that lacks a batch is not silently completed."""
    name = next(iter(cifar.test_files))
    folder = tmp_path / "data" / cifar.archive.folder
    (folder / name).unlink()
    message = refusal(cifar(), tmp_path / "data")
    assert message.startswith(f"{folder / name}: cannot be read: No such file or directory; remove {folder} and put ")


@pytest.mark.parametrize("cls", CIFARS)
def test_nothing_there(cls: type[PythonBatches], tmp_path: Path) -> None:
    """One line: which file, from where, into which folder."""
    assert refusal(cls(), tmp_path) == (
        f"{tmp_path / cls.archive.folder}: not there, and the download failed (no network in tests); "
        f"put {cls.archive.filename} (md5 {cls.archive.md5}) from {cls.archive.url} into {tmp_path}"
    )


@pytest.mark.parametrize(("cls", "classes"), [(Cifar10, 10), (Cifar100, 100)])
def test_known_before_reading(cls: type[PythonBatches], classes: int) -> None:
    """A plan needs no data."""
    dataset = cls()
    assert (dataset.shape, dataset.num_classes, dataset.train_size) == ((3, 32, 32), classes, 50_000)
    assert all(md5 in dataset.fingerprint for md5 in [*cls.train_files.values(), *cls.test_files.values()])


@pytest.mark.parametrize(("option", "value"), [("train_size", 50_001), ("test_size", 10_001), ("train_size", 0)])
def test_more_than_there_are(option: str, value: int) -> None:
    """Bounds are checked with the benchmark file."""
    with pytest.raises(ValueError, match=option):
        CifarOptions.model_validate({option: value})


@pytest.mark.parametrize(("cls", "per_class"), [(Cifar10, 5000), (Cifar100, 500)], ids=["cifar10", "cifar100"])
def test_real_data(cls: type[PythonBatches], per_class: int, real_data: Callable[[str], Path]) -> None:
    """50,000 and 10,000 images, classes equally many, and the normalization is theirs."""
    dataset = cls()
    train, test = dataset.load(real_data(cls.archive.folder))
    assert (len(train), len(test)) == (50_000, 10_000)
    assert set(train.labels.bincount().tolist()) == {per_class}
    pixels = train.images.transpose(0, 1).flatten(1).double() / 255
    mean, std = dataset.normalization
    assert pixels.mean(1).tolist() == pytest.approx(mean, abs=1e-4)
    assert pixels.std(1, correction=0).tolist() == pytest.approx(std, abs=1e-4)
