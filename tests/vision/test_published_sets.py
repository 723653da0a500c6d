"""CIFAR-10-C, CIFAR-100-C and SVHN from small files in the published formats, and photographs of scikit-learn."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import harness
import toys
from conftest import Lab
from harness import DataError, Split
from harness.execution.rows import rows
from harness.plan.graph import Graph
from harness.testing import check_evaluation_set
from harness_vision.digits import Digits
from harness_vision.shift.cifar_c import Cifar10C, Cifar100C, CifarC
from harness_vision.shift.cifar_c_files import CIFAR10_C, CIFAR100_C, COMMON, EXTRA
from harness_vision.shift.photo_patches import PhotoPatches
from harness_vision.shift.svhn import Svhn


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


class TestOptions(harness.Options):
    """Options of the stand-in for CIFAR."""

    __test__ = False
    test_size: int | None = None


class Cifar(harness.Dataset):
    """Noise in the place of CIFAR's test images, with labels as in the corrupted files."""

    name, version = "cifar10", 1
    shape = (3, 32, 32)
    num_classes, train_size, fingerprint = 10, 2, "noise"
    normalization = ((0.5,) * 3, (0.25,) * 3)
    Options = TestOptions

    def load(self, root: Path) -> tuple[Split, Split]:
        n = self.options.test_size or 10_000
        images = torch.zeros(n, *self.shape, dtype=torch.uint8)
        return Split(images[:2], torch.tensor([0, 1])), Split(images, torch.arange(n) % 10)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with two corruptions of CIFAR-10-C in the published format; the images are views of few bytes."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "CIFAR-10-C"
    folder.mkdir()
    labels = np.tile(np.arange(50_000) % 10, 1).astype(np.uint8)
    np.save(folder / "labels.npy", labels)
    for number, name in enumerate(("fog", "spatter")):
        images = np.zeros((50_000, 32, 32, 3), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(50_000) // 10_000 + 1  # the severity
        images[:, 0, 1, 2] = np.arange(50_000) % 251  # the image
        images[:, 1, 0, 1] = number
        np.save(folder / f"{name}.npy", images)
    return root


def small(root: Path) -> type[CifarC]:
    """Return the set with the md5 sums of the files under a root."""

    class Small(Cifar10C):
        files = {path.stem: md5_of(path) for path in (root / "CIFAR-10-C").glob("*.npy")}

    return Small


CHOSEN = {"corruptions": ("fog", "spatter"), "severities": (1, 3)}


def test_corrupted_images_by_severity(root: Path) -> None:
    """Severity s is the rows from 10000 (s − 1), planes first; the data set's first n test images are the first n rows."""
    chosen = small(root)(Cifar10C.Options(**CHOSEN))
    dataset = Cifar(TestOptions(test_size=30))
    check_evaluation_set(chosen, dataset, root)
    assert chosen.splits(dataset) == ("fog/1", "fog/3", "spatter/1", "spatter/3")
    split = chosen.load(dataset, "spatter/3", root)
    assert split.images.shape == (30, 3, 32, 32)
    assert (split.images[:, 0, 0, 0] == 3).all()
    assert split.images[:, 2, 0, 1].tolist() == [(20_000 + row) % 251 for row in range(30)]
    assert (split.images[:, 1, 1, 0] == 1).all()
    assert len(chosen.load(Cifar(), "fog/1", root)) == 10_000


def test_missing_cut_and_other_files(root: Path, tmp_path: Path) -> None:
    """Each is one line with the path and the way out, before anything is trained."""
    dataset = Cifar()
    chosen = small(root)(Cifar10C.Options(**CHOSEN))
    (tmp_path / "CIFAR-10-C").mkdir()
    for path in (root / "CIFAR-10-C").glob("*.npy"):
        (tmp_path / "CIFAR-10-C" / path.name).hardlink_to(path)
    chosen.locate(dataset, tmp_path)
    fog = tmp_path / "CIFAR-10-C" / "fog.npy"
    fog.unlink()
    advice = r"; remove .*CIFAR-10-C and put CIFAR-10-C.tar \(md5 56bf5dcef84df0e2308c6dcbcbbd8499\) from https://zenodo"
    with pytest.raises(DataError, match=r"fog\.npy: not there" + advice):
        chosen.locate(dataset, tmp_path)
    content = (root / "CIFAR-10-C" / "fog.npy").read_bytes()
    fog.write_bytes(content[:1000])
    with pytest.raises(DataError, match=r"fog\.npy: damaged or not the published file: md5 \w+, expected \w+" + advice):
        chosen.locate(dataset, tmp_path)
    with pytest.raises(DataError, match="damaged or not the published file"):
        chosen.load(dataset, "fog/1", tmp_path)
    with pytest.raises(DataError, match=r"CIFAR-10-C: not there, and the download failed .*; put CIFAR-10-C.tar "):
        chosen.locate(dataset, tmp_path / "empty")


def test_archive_is_unpacked(root: Path, tmp_path: Path) -> None:
    """The tar in the data root is enough; other names in it are not unpacked."""
    with tarfile.open(tmp_path / "CIFAR-10-C.tar", "w") as tar:
        tar.add(root / "CIFAR-10-C" / "labels.npy", "CIFAR-10-C/labels.npy")
        tar.add(root / "CIFAR-10-C" / "labels.npy", "CIFAR-10-C/../evil.npy")

    class Small(Cifar10C):
        archive = replace(Cifar10C.archive, md5=md5_of(tmp_path / "CIFAR-10-C.tar"))
        files = {"labels": md5_of(root / "CIFAR-10-C" / "labels.npy")}
        corruptions = ()

    Small().locate(Cifar(), tmp_path)
    assert [path.name for path in (tmp_path / "CIFAR-10-C").glob("*.npy")] == ["labels.npy"]
    assert not list(tmp_path.rglob("evil.npy"))


def test_published_tables() -> None:
    """Both sets have 15 common corruptions, 4 extra ones and labels, each with an md5 of its own."""
    assert (len(COMMON), len(EXTRA)) == (15, 4)
    for table in (CIFAR10_C, CIFAR100_C):
        assert set(table) == {*COMMON, *EXTRA, "labels"}
        assert len(set(table.values())) == 20
        assert all(len(md5) == 32 for md5 in table.values())
    assert not set(CIFAR10_C.values()) & set(CIFAR100_C.values())
    assert CIFAR10_C["fog"] == "7b397314b5670f825465fbcd1f6e9ccd"
    assert CIFAR100_C["saturate"] == "c0697e9fdd646916a61e9c312c77bf6b"


def test_selected_corruptions() -> None:
    """By default the 15 common ones at 5 severities; `extra` adds four."""
    assert len(Cifar10C().splits(Cifar())) == 75
    assert len(Cifar100C(Cifar100C.Options(extra=True)).splits(Cifar())) == 95
    assert Cifar10C(Cifar10C.Options(corruptions=["snow", "saturate"], extra=True)).corruptions == ("snow", *EXTRA)
    with pytest.raises(ValueError, match=r"'rain' is none of the 19 corruptions; known: gaussian_noise, "):
        Cifar10C.Options(corruptions=["rain"])
    with pytest.raises(ValueError, match=r"severity 6 does not exist; from 1 to 5"):
        Cifar10C.Options(severities=[6])


def test_another_data_set() -> None:
    """CIFAR-10-C is for CIFAR-10, SVHN for both CIFARs; another shape is told first."""
    with pytest.raises(ValueError, match=r"^evaluation set 'cifar100_c' exists for cifar100, not for data set 'cifar10'$"):
        Cifar100C().check(Cifar())
    shapes = r"^evaluation set 'svhn' has images of 32×32 pixels with 3 channels; those of data set 'digits' are 8×8 "
    with pytest.raises(ValueError, match=shapes):
        Svhn().check(Digits())
    Svhn().check(Cifar())


def test_house_numbers(tmp_path: Path) -> None:
    """Images of the MATLAB file, planes first, with the label 0; another file is refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 7), dtype=np.uint8)
    path = tmp_path / "test_32x32.mat"
    scipy.io.savemat(path, {"X": pixels, "y": np.arange(7)[:, None]})

    class Small(Svhn):
        file = replace(Svhn.file, md5=md5_of(path))
        count = 7

    check_evaluation_set(Small(), Cifar(TestOptions(test_size=5)), tmp_path)
    images = Small().load(Cifar(), "svhn", tmp_path).images
    np.testing.assert_array_equal(images[6, 2].numpy(), pixels[:, :, 2, 6])
    with pytest.raises(DataError, match=r"test_32x32\.mat: damaged or not the published file: md5 \w+, expected eb5a983be6a3"):
        Svhn().locate(Cifar(), tmp_path)
    with pytest.raises(DataError, match=r"not there, and the download failed .*; put test_32x32\.mat \(md5 eb5a983be6a3"):
        Svhn().locate(Cifar(), tmp_path / "empty")


def test_from_a_benchmark_to_rows(root: Path, lab: Lab, graph_of: Callable[..., Graph]) -> None:
    """Files in the published formats give one row per split beside the means; each is read for its md5 once."""
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3, 9), dtype=np.uint8)
    mat = lab.folder / "test_32x32.mat"
    scipy.io.savemat(mat, {"X": pixels, "y": np.arange(9)[:, None]}, do_compression=True)
    (lab.folder / "CIFAR-10-C").symlink_to(root / "CIFAR-10-C")

    class SmallCifar(Cifar):
        name = "small_cifar"

    class SmallC(small(root)):
        name, datasets = "small_c", ("small_cifar",)

    class SmallSvhn(Svhn):
        name, datasets = "small_svhn", ("small_cifar",)
        file, count = replace(Svhn.file, md5=md5_of(mat)), 9

    catalogue = toys.catalogue(("dataset", SmallCifar), ("evaluation_set", SmallC), ("evaluation_set", SmallSvhn))
    graph = graph_of(
        catalogue,
        datasets=[{"small_cifar": {"test_size": 40}}],
        methods=["deep"],
        members=2,
        recipe={"epochs": 1, "batch_size": 2, "augmentation": {"crop_padding": 0}},
        metrics=[
            {"shift_accuracy": {"splits": {"small_c": {"corruptions": ["fog", "spatter"], "severities": [1, 5]}}}},
            {"ood_auroc": {"splits": "small_svhn"}},
        ],
    )
    state = lab.run(graph, catalogue)
    assert not state.failures, state.failures
    values = {row.metric: row.value for row in rows(graph, state)}
    splits = ["fog/1", "fog/5", "spatter/1", "spatter/5"]
    of_splits = [values[f"shift_accuracy/{split}"] for split in splits]
    assert values["shift_accuracy"] == pytest.approx(sum(of_splits) / 4, abs=1e-9)
    assert all(value / 2.5 == round(value / 2.5) for value in of_splits)
    assert values["ood_auroc"] == values["ood_auroc/svhn"]
    notes = {path.name for path in (root / "CIFAR-10-C").glob(".*")}
    assert notes == {".fog.npy.checked", ".spatter.npy.checked", ".labels.npy.checked"}


def test_patches_of_photographs(tmp_path: Path) -> None:
    """520 patches in the form of the data set's images; a patch is the mean over boxes of 32×32 pixels."""
    gray = PhotoPatches().load(Digits(), "photo_patches", tmp_path)
    assert gray.images.shape == (520, 1, 8, 8)
    color = PhotoPatches().load(Cifar(), "photo_patches", tmp_path)
    assert color.images.shape == (520, 3, 32, 32)
    luma = (color.images.double() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    boxes = luma.view(520, 8, 4, 8, 4).mean((2, 4))
    assert float((boxes - gray.images[:, 0]).abs().max()) < 2
    check_evaluation_set(PhotoPatches(), Cifar(TestOptions(test_size=5)), tmp_path)


class Wide(toys.Blobs):
    shape = (1, 64, 64)


class TwoChannels(toys.Blobs):
    shape = (2, 8, 8)


@pytest.mark.parametrize("dataset", [Wide(), TwoChannels()], ids=["wide", "two channels"])
def test_images_that_no_patch_fits(dataset: harness.Dataset) -> None:
    """Larger images and other channels are refused."""
    with pytest.raises(ValueError, match=r"^evaluation set 'photo_patches' exists for images with 1 or 3 channels of at most "):
        PhotoPatches().check(dataset)
