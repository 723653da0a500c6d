"""CIFAR from Python batches: small ones in the published format, and the real ones if HARNESS_DATA has them."""

from __future__ import annotations

import hashlib
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


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def batch(cls: type[PythonBatches], seed: int, n: int = 6) -> bytes:
    """Return a pickled batch in the published format: uint8 (n, 3072), red plane first; labels as lists."""
    rng = np.random.default_rng(seed)
    content = {
        "batch_label": f"batch {seed}",
        "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        cls.label_key: rng.integers(0, 10, n).tolist(),
        "filenames": [f"{i}.png" for i in range(n)],
    }
    if issubclass(cls, Cifar100):
        content["coarse_labels"] = [0] * n
    return pickle.dumps(content, protocol=2)


@pytest.fixture(params=CIFARS, ids=lambda cls: cls.name)
def cifar(request: pytest.FixtureRequest, tmp_path: Path) -> type[PythonBatches]:
    """Write small batches under `tmp_path / "data"` and their archive; return the data set that has their md5 sums."""
    published: type[PythonBatches] = request.param
    folder = tmp_path / "data" / published.archive.folder
    folder.mkdir(parents=True)
    md5_by_name = {}
    for seed, name in enumerate([*published.train_files, *published.test_files]):
        content = batch(published, seed)
        (folder / name).write_bytes(content)
        md5_by_name[name] = md5_of(content)
    archive_path = tmp_path / published.archive.filename
    with tarfile.open(archive_path, mode="w:gz") as tar:
        tar.add(folder, published.archive.folder)

    class Small(published):  # type: ignore[misc, valid-type]
        train_files = {name: md5_by_name[name] for name in published.train_files}
        test_files = {name: md5_by_name[name] for name in published.test_files}
        archive = replace(published.archive, md5=md5_of(archive_path.read_bytes()))

    return Small


def load_error(dataset: PythonBatches, root: Path) -> str:
    """Return the message, one line, with which loading fails."""
    with pytest.raises(DataError) as caught:
        dataset.load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pixels_and_labels(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """Images and labels are in the order of the files; a row of a batch is an image, red plane first."""
    train, test = cifar().load(tmp_path / "data")
    batches = [pickle.loads(batch(cifar, seed)) for seed in range(len(cifar.train_files) + 1)]
    assert train.images.shape == (6 * len(cifar.train_files), 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert train.images[:6].flatten(1).tolist() == batches[0]["data"].tolist()
    labels = []
    for content in batches[:-1]:
        labels += content[cifar.label_key]
    assert train.labels.tolist() == labels
    assert train.labels.dtype == torch.int64
    assert test.images.flatten(1).tolist() == batches[-1]["data"].tolist()


def test_first_images(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """`train_size` and `test_size` keep the first images and no others in memory; they are part of the identity."""
    dataset = cifar(CifarOptions(train_size=4, test_size=2))
    train, test = dataset.load(tmp_path / "data")
    whole, _ = cifar().load(tmp_path / "data")
    assert (dataset.train_size, len(train), len(test)) == (4, 4, 2)
    assert torch.equal(train.images, whole.images[:4])
    assert train.images.untyped_storage().nbytes() == 4 * 3072
    assert dataset.identity["options"] == {"train_size": 4, "test_size": 2}


def test_archive_is_unpacked(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """The archive alone is enough."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    os.link(tmp_path / cifar.archive.filename, root / cifar.archive.filename)
    train, _ = cifar().load(root)
    assert torch.equal(train.images, cifar().load(tmp_path / "data")[0].images)


def test_damaged_file(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """A truncated batch is not opened; the message names the file, both md5 sums and the archive to download."""
    name, expected = next(iter(cifar.test_files.items()))
    folder = tmp_path / "data" / cifar.archive.folder
    truncated = (folder / name).read_bytes()[:-1]
    (folder / name).write_bytes(truncated)
    assert load_error(cifar(), tmp_path / "data") == (
        f"{folder / name}: damaged or not the published file: md5 {md5_of(truncated)}, expected {expected}; "
        f"remove {folder} and put {cifar.archive.filename} (md5 {cifar.archive.md5}) from {cifar.archive.url} "
        f"into {tmp_path / 'data'}"
    )


def test_hostile_pickle(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """A file that is not the published one is not unpickled: its code does not run."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    name = next(iter(cifar.train_files))
    (tmp_path / "data" / cifar.archive.folder / name).write_bytes(pickle.dumps(Hostile()))
    assert "damaged or not the published file" in load_error(cifar(), tmp_path / "data")
    assert not (tmp_path / "pwned").exists()


def test_missing_file(cifar: type[PythonBatches], tmp_path: Path) -> None:
    """The message names the missing batch; the folder is not completed silently."""
    name = next(iter(cifar.test_files))
    folder = tmp_path / "data" / cifar.archive.folder
    (folder / name).unlink()
    message = load_error(cifar(), tmp_path / "data")
    assert message.startswith(f"{folder / name}: cannot be read: No such file or directory; remove {folder} and put ")


@pytest.mark.parametrize("cls", CIFARS)
def test_no_data_and_no_network(cls: type[PythonBatches], tmp_path: Path) -> None:
    """The message, one line, says which file to put into which folder, and where to get it."""
    assert load_error(cls(), tmp_path) == (
        f"{tmp_path / cls.archive.folder}: not there, and the download failed (no network in tests); "
        f"put {cls.archive.filename} (md5 {cls.archive.md5}) from {cls.archive.url} into {tmp_path}"
    )


@pytest.mark.parametrize(("cls", "num_classes"), [(Cifar10, 10), (Cifar100, 100)])
def test_facts_known_before_loading(cls: type[PythonBatches], num_classes: int) -> None:
    """A plan needs no data: shapes, sizes, and a fingerprint of all md5 sums."""
    dataset = cls()
    assert (dataset.shape, dataset.num_classes, dataset.train_size) == ((3, 32, 32), num_classes, 50_000)
    for md5 in [*cls.train_files.values(), *cls.test_files.values()]:
        assert md5 in dataset.fingerprint


@pytest.mark.parametrize(("option", "value"), [("train_size", 50_001), ("test_size", 10_001), ("train_size", 0)])
def test_size_out_of_range(option: str, value: int) -> None:
    """The option is refused."""
    with pytest.raises(ValueError, match=option):
        CifarOptions.model_validate({option: value})


@pytest.mark.parametrize(("cls", "per_class"), [(Cifar10, 5000), (Cifar100, 500)], ids=["cifar10", "cifar100"])
def test_real_data(cls: type[PythonBatches], per_class: int, real_data: Callable[[str], Path]) -> None:
    """There are 50,000 and 10,000 images, balanced over classes, with the mean and deviation of the normalization."""
    dataset = cls()
    train, test = dataset.load(real_data(cls.archive.folder))
    assert (len(train), len(test)) == (50_000, 10_000)
    assert set(train.labels.bincount().tolist()) == {per_class}
    pixels = train.images.transpose(0, 1).flatten(1).double() / 255
    mean, std = dataset.normalization
    assert pixels.mean(1).tolist() == pytest.approx(mean, abs=1e-4)
    assert pixels.std(1, correction=0).tolist() == pytest.approx(std, abs=1e-4)
