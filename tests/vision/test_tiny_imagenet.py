"""Tiny ImageNet from folders of JPEGs: three small classes in the published layout, and real classes where they are."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from harness import DataError, UserError
from harness.benchmark import load_benchmark
from harness.execution.environment import TaskEnvironment
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness_vision import pictures, tiny_imagenet
from harness_vision.tiny_imagenet import TinyImageNet, TinyImageNetOptions
from harness_vision.tiny_imagenet_classes import WNIDS

FEW = ("n01443537", "n01629819", "n02085620")
TRAIN, TEST = 12, 2


def jpeg(path: Path, wnid: str, number: int, size: tuple[int, int] = (64, 64)) -> None:
    """Write a picture of one color that says its class and number; every third one is gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = color_of(wnid, number)
    if number % 3 == 0:
        Image.new("L", size, color[0]).save(path, "JPEG")
    else:
        Image.new("RGB", size, color).save(path, "JPEG", subsampling=0, quality=100)


def color_of(wnid: str, number: int) -> tuple[int, int, int]:
    gray = 40 * FEW.index(wnid) + 2 * number
    return (gray, gray, gray) if number % 3 == 0 else (gray, 200, 10)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out three classes and let the module believe that there are no others; return the data root."""
    monkeypatch.setattr(tiny_imagenet, "WNIDS", FEW)
    monkeypatch.setattr(tiny_imagenet, "TRAIN_IMAGES", TRAIN)
    monkeypatch.setattr(tiny_imagenet, "TEST_IMAGES", TEST)
    monkeypatch.setattr(pictures, "CHUNK", 5)
    folder = tmp_path / "tiny-imagenet-200"
    for wnid in FEW:
        for number in range(TRAIN):
            jpeg(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", wnid, number)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    rows = []
    for number, wnid in enumerate([FEW[2], FEW[0], FEW[1]] * TEST):
        jpeg(folder / "val" / "images" / f"val_{number}.JPEG", wnid, number)
        rows.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(rows)))
    (folder / "wnids.txt").write_text("\n".join(FEW))
    return tmp_path


def options(**values: Any) -> TinyImageNetOptions:
    return TinyImageNetOptions.model_validate(values)


def load(root: Path, **values: Any) -> tuple[Any, Any]:
    return TinyImageNet(options(**values)).load(root)


def refusal(root: Path, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def again(root: Path) -> str:
    archive = tiny_imagenet.ARCHIVE
    return (
        f"remove {root / 'tiny-imagenet-200'} and put tiny-imagenet-200.zip (md5 {archive.md5}) "
        f"from http://cs231n.stanford.edu/tiny-imagenet-200.zip into {root}"
    )


def caches(root: Path) -> list[Path]:
    return sorted(root.glob("*.safetensors"))


def test_pictures_and_labels(tiny: Path) -> None:
    """Classes by turns in training, by number in validation; gray pictures have three equal channels."""
    train, test = load(tiny)
    assert train.images.shape == (3 * TRAIN, 3, 64, 64)
    assert train.images.dtype == torch.uint8
    assert train.labels.tolist() == [0, 1, 2] * TRAIN
    assert test.labels.tolist() == [2, 0, 1] * TEST
    assert train.labels.dtype == torch.int64
    for split, numbers in ((train, [i // 3 for i in range(3 * TRAIN)]), (test, range(3 * TEST))):
        for image, label, number in zip(split.images, split.labels.tolist(), numbers):
            expected = torch.tensor(color_of(FEW[label], number)).view(3, 1, 1)
            assert (image.int() - expected).abs().max() <= 2, (label, number)  # JPEG


def test_same_as_pillow(tiny: Path) -> None:
    """Pixel for pixel what `Image.open(…).convert("RGB")` gives, rows and columns in place."""
    path = tiny / "tiny-imagenet-200" / "train" / FEW[0] / "images" / f"{FEW[0]}_0.JPEG"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, "JPEG")
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(load(tiny)[0].images[0].permute(1, 2, 0).numpy(), expected)


def test_first_images(tiny: Path) -> None:
    """The first n are a fair sample, and no others are decoded."""
    (tiny / "tiny-imagenet-200" / "train" / FEW[0] / "images" / f"{FEW[0]}_11.JPEG").write_bytes(b"damaged")
    dataset = TinyImageNet(options(train_size=7, test_size=2))
    train, test = dataset.load(tiny)
    assert dataset.train_size == 7
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert test.labels.tolist() == [2, 0]


def test_some_classes(tiny: Path) -> None:
    """Named classes alone, numbered in ascending order, whatever their order in the file; another identity."""
    dataset = TinyImageNet(options(wnids=[FEW[2], FEW[0]]))
    train, test = dataset.load(tiny)
    assert (dataset.num_classes, dataset.train_size, dataset.wnids) == (2, 2 * TRAIN, (FEW[0], FEW[2]))
    assert train.labels.tolist() == [0, 1] * TRAIN
    assert test.labels.tolist() == [1, 0] * TEST
    assert dataset.identity == TinyImageNet(options(wnids=[FEW[0], FEW[2]])).identity
    assert dataset.identity != TinyImageNet().identity
    assert options(wnids=list(FEW)) == options()


def remove_class(root: Path, wnid: str) -> None:
    (root / "tiny-imagenet-200" / "train" / wnid).rename(root / f"aside-{wnid}")


def test_partial_copy(tiny: Path) -> None:
    """Refused, with how many classes are there and the word that takes them."""
    remove_class(tiny, FEW[1])
    assert refusal(tiny) == (
        f"{tiny / 'tiny-imagenet-200' / 'train'}: 2 of the 3 classes are there; to use these alone, set the option "
        f"`classes: present`; for all, {again(tiny)}"
    )
    train, _ = load(tiny, wnids=[FEW[0], FEW[2]])
    assert len(train) == 2 * TRAIN


# The classes that are there


def present(root: Path, **values: Any) -> TinyImageNet:
    return TinyImageNet(options(classes="present", **values)).located(root)


def refused_there(root: Path, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        present(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_present(tiny: Path) -> None:
    """Found when it is located: their number, names and images, and a fingerprint of its own."""
    remove_class(tiny, FEW[1])
    dataset = present(tiny)
    assert (dataset.num_classes, dataset.train_size, dataset.wnids) == (2, 2 * TRAIN, (FEW[0], FEW[2]))
    assert dataset.identity["options"]["wnids"] == [FEW[0], FEW[2]]
    assert re.fullmatch("tiny-imagenet-200:present:[0-9a-f]{64}", dataset.fingerprint)
    for split, named in zip(dataset.load(tiny), load(tiny, wnids=[FEW[0], FEW[2]])):
        assert torch.equal(split.images, named.images)
        assert torch.equal(split.labels, named.labels)


def test_whole_copy_is_the_official_data_set(tiny: Path) -> None:
    """So its results are shared."""
    found = present(tiny, train_size=7)
    official = TinyImageNet(options(train_size=7))
    assert found.identity == official.identity
    assert found.fingerprint == official.fingerprint


def test_same_copy_elsewhere(tiny: Path, tmp_path: Path) -> None:
    """The same fingerprint; another after a picture has changed its size."""
    remove_class(tiny, FEW[1])
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny / "tiny-imagenet-200", copy / "tiny-imagenet-200")
    assert present(copy).fingerprint == present(tiny).fingerprint
    with (copy / "tiny-imagenet-200" / "val" / "images" / "val_1.JPEG").open("ab") as file:
        file.write(b"\0")
    assert present(copy).fingerprint != present(tiny).fingerprint


def test_other_classes_than_planned(tiny: Path) -> None:
    """A worker with another copy says in which classes they differ."""
    remove_class(tiny, FEW[1])
    planned = present(tiny)
    (tiny / f"aside-{FEW[1]}").rename(tiny / "tiny-imagenet-200" / "train" / FEW[1])
    with pytest.raises(DataError) as caught:
        TinyImageNet(planned.options).located(tiny)
    assert str(caught.value) == (
        f"{tiny / 'tiny-imagenet-200' / 'train'}: 3 classes are there, expected 2; not expected: {FEW[1]}; {again(tiny)}"
    )
    remove_class(tiny, FEW[2])
    assert f"2 classes are there, expected 2; missing: {FEW[2]}; not expected: {FEW[1]}; " in refused_there(
        tiny, wnids=[FEW[0], FEW[2]]
    )


def test_before_it_is_located(tiny: Path) -> None:
    """`harness check` gets a fingerprint and no number of classes."""
    dataset = TinyImageNet(options(classes="present", train_size=10_000))
    assert dataset.fingerprint == "tiny-imagenet-200:present:"
    with pytest.raises(DataError, match="the classes are known once the data set is located in a root"):
        _ = dataset.num_classes


def test_more_images_than_the_classes_present_have(tiny: Path) -> None:
    """Refused once their number is known."""
    remove_class(tiny, FEW[1])
    assert refused_there(tiny, train_size=30) == (
        f"{tiny / 'tiny-imagenet-200' / 'train'}: train_size is 30, but 2 classes have 24 images; at most that many, or null"
    )


def test_a_class_without_all_its_images(tiny: Path) -> None:
    """Refused when it is located."""
    remove_class(tiny, FEW[1])
    folder = tiny / "tiny-imagenet-200" / "train" / FEW[0] / "images"
    (folder / f"{FEW[0]}_3.JPEG").unlink()
    assert refused_there(tiny) == f"{folder}: {TRAIN - 1} images of class {FEW[0]}, expected {TRAIN}; {again(tiny)}"


def test_one_class_or_none(tiny: Path) -> None:
    """Too few to tell apart."""
    remove_class(tiny, FEW[0])
    remove_class(tiny, FEW[1])
    place = tiny / "tiny-imagenet-200" / "train"
    assert refused_there(tiny) == f"{place}: only 1 of the 3 classes is there, at least 2; {again(tiny)}"
    remove_class(tiny, FEW[2])
    assert refused_there(tiny) == f"{place}: none of the 3 classes is there; {again(tiny)}"


def test_planned_and_run(tiny: Path, tmp_path: Path) -> None:
    """A plan and a worker find the same classes; the board has values."""
    remove_class(tiny, FEW[1])
    (tmp_path / "b.yaml").write_text(
        "seeds: [0]\nmembers: 1\ndatasets: [tiny_imagenet: {classes: present}]\narchitectures: [resnet20: {width: 0.25}]\n"
        "methods: [deep]\nmetrics: [mean_member_accuracy]\nrecipe: {epochs: 1, batch_size: 8, learning_rate: 0.05}\n"
    )
    catalogue = load_catalogue()
    benchmark = load_benchmark(tmp_path / "b.yaml", catalogue).located(tiny)
    assert benchmark.resolved()["datasets"][0]["options"]["wnids"] == [FEW[0], FEW[2]]
    [task, *_] = plan(benchmark).tasks.values()
    room = TaskEnvironment(catalogue, task.spec.setting, tiny, torch.device("cpu"))
    assert room.module()(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    path = tiny / "tiny-imagenet-200" / "val" / "images" / "val_1.JPEG"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(
        UserError, match="data set 'tiny_imagenet' is not the one the task was made for: its fingerprint differs"
    ):
        TaskEnvironment(catalogue, task.spec.setting, tiny, torch.device("cpu"))


def test_classes_named_but_missing(tiny: Path) -> None:
    """Said with their names."""
    (tiny / "tiny-imagenet-200" / "train" / FEW[1]).rename(tiny / "aside")
    assert refusal(tiny, wnids=FEW[:2]) == (
        f"{tiny / 'tiny-imagenet-200' / 'train'}: 1 of the 2 `wnids` are missing ({FEW[1]}); {again(tiny)}"
    )


def test_no_class_at_all(tiny: Path) -> None:
    """An empty folder, or none."""
    place = tiny / "tiny-imagenet-200" / "train"
    place.rename(tiny / "aside")
    assert refusal(tiny) == f"{place}: cannot be read (No such file or directory); {again(tiny)}"
    place.mkdir()
    assert refusal(tiny) == f"{place}: none of the 3 classes is there; {again(tiny)}"


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        (f"train/{FEW[1]}/images", f"{FEW[1]}_3.JPEG", f"{TRAIN - 1} images of class {FEW[1]}, expected {TRAIN}"),
        ("val/images", "val_0.JPEG", f"{TEST - 1} images of class {FEW[2]}, expected {TEST}"),
    ],
)
def test_missing_picture(tiny: Path, place: str, name: str, expected: str) -> None:
    """Every class must have all its pictures; others than the published names do not count."""
    folder = tiny / "tiny-imagenet-200" / place
    (folder / name).rename(folder / f"._{name}")
    assert refusal(tiny) == f"{folder}: {expected}; {again(tiny)}"


def test_missing_annotations(tiny: Path) -> None:
    """The file is named."""
    path = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.unlink()
    assert refusal(tiny).startswith(f"{path}: cannot be read (")


@pytest.mark.parametrize("content", [b"", b"GIF89a", "truncated"])
def test_damaged_picture(tiny: Path, content: bytes | str) -> None:
    """The file is named."""
    path = tiny / "tiny-imagenet-200" / "train" / FEW[1] / "images" / f"{FEW[1]}_4.JPEG"
    path.write_bytes(path.read_bytes()[:-200] if isinstance(content, str) else content)
    message = refusal(tiny)
    assert message.startswith(f"{path}: damaged or no JPEG (")
    assert message.endswith("); unpack the archive again")
    assert caches(tiny) == []


def test_picture_of_another_size(tiny: Path) -> None:
    """The file is named, with both sizes."""
    path = tiny / "tiny-imagenet-200" / "val" / "images" / "val_1.JPEG"
    jpeg(path, FEW[0], 1, (32, 64))
    assert refusal(tiny) == f"{path}: 32×64 pixels, expected 64×64"


# The cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by a number of pictures whenever some are decoded."""
    counts: list[int] = []
    decode = pictures.decode

    def counting(paths: Any, shape: Any) -> Any:
        counts.append(len(paths))
        return decode(paths, shape)

    monkeypatch.setattr(pictures, "decode", counting)
    return counts


def test_cache_is_used(tiny: Path, decoded: list[int]) -> None:
    """The second loading decodes nothing and gives the same; one file lies beside the folder, and no lock."""
    first, again = load(tiny), load(tiny)
    assert decoded == [3 * (TRAIN + TEST)]
    for a, b in zip(first, again):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    assert [path.name for path in tiny.iterdir() if path.name != "tiny-imagenet-200"] == [caches(tiny)[0].name]


def test_each_choice_has_its_cache(tiny: Path, decoded: list[int]) -> None:
    """Other pictures, another file."""
    load(tiny)
    load(tiny, wnids=FEW[:2])
    load(tiny, train_size=5, test_size=1)
    assert decoded == [42, 28, 6]
    assert len(caches(tiny)) == 3


def test_stale_cache(tiny: Path, decoded: list[int]) -> None:
    """A picture of another size in bytes makes another listing."""
    load(tiny)
    path = tiny / "tiny-imagenet-200" / "train" / FEW[0] / "images" / f"{FEW[0]}_1.JPEG"
    with path.open("ab") as file:
        file.write(b"\0")
    load(tiny)
    assert decoded == [42, 42]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "nonsense", "empty"])
def test_damaged_cache(tiny: Path, decoded: list[int], damage: str) -> None:
    """It is made anew."""
    first, _ = load(tiny)
    pixels = first.images.clone()
    [cache] = caches(tiny)
    content = bytearray(cache.read_bytes())
    content[-1] ^= 1
    flipped = bytes(content)
    del first
    cache.unlink()
    cache.write_bytes({"truncated": flipped[:-10], "flipped": flipped, "nonsense": b"nonsense", "empty": b""}[damage])
    assert torch.equal(load(tiny)[0].images, pixels)
    assert torch.equal(load(tiny)[0].images, pixels)
    assert decoded == [42, 42]


def test_cache_that_cannot_be_written(tiny: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only root means no cache, and nothing else."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pictures.tempfile, "TemporaryDirectory", refuse)
    load(tiny)
    load(tiny)
    assert decoded == [42, 42]
    assert caches(tiny) == []


# Archive and options


def test_unpacks_the_archive(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zip alone is enough; the unlabeled test pictures stay in it."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as file:
        for path in sorted((tiny / "tiny-imagenet-200").rglob("*")):
            file.write(path, path.relative_to(tiny))
        file.writestr("tiny-imagenet-200/test/images/test_0.JPEG", b"")
    md5 = hashlib.md5((root / "tiny-imagenet-200.zip").read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(tiny_imagenet, "ARCHIVE", replace(tiny_imagenet.ARCHIVE, md5=md5))
    assert torch.equal(load(root)[0].images, load(tiny)[0].images)
    assert sorted(path.name for path in (root / "tiny-imagenet-200").iterdir()) == ["train", "val", "wnids.txt"]


def test_nothing_there(tmp_path: Path) -> None:
    """One line: which file, from where, into which folder."""
    root = tmp_path / "empty"
    assert refusal(root) == (
        f"{root / 'tiny-imagenet-200'}: not there, and the download failed (no network in tests); "
        f"put tiny-imagenet-200.zip (md5 90528d7ca1a48142e341f4ef8d21d0de) from "
        f"http://cs231n.stanford.edu/tiny-imagenet-200.zip into {root}"
    )


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
        ({"test_size": 5, "wnids": FEW[:2]}, "test_size is 5, but 2 classes have 4 images; at most that many, or null"),
        ({"train_size": 0}, "train_size"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_options_refused(values: dict[str, Any], message: str) -> None:
    """What is wrong, and what is allowed."""
    with pytest.raises(ValueError, match=message):
        options(**values)


def test_known_before_reading() -> None:
    """A plan needs no data: 200 classes of 500 images each."""
    dataset = TinyImageNet()
    assert (dataset.shape, dataset.num_classes, dataset.train_size) == ((3, 64, 64), 200, 100_000)
    assert dataset.fingerprint == "tiny-imagenet-200.zip:90528d7ca1a48142e341f4ef8d21d0de"
    assert len(set(WNIDS)) == len(WNIDS) == 200
    assert list(WNIDS) == sorted(WNIDS)


def test_real_data(real_data: Callable[[str], Path]) -> None:
    """The real classes that are there: whole, 64×64, of about the normalization's mean and spread."""
    root = real_data("tiny-imagenet-200")
    here = [wnid for wnid in WNIDS if (root / "tiny-imagenet-200" / "train" / wnid).is_dir()]
    dataset = TinyImageNet(options(wnids=here))
    train, test = dataset.load(root)
    assert set(train.labels.bincount().tolist()) == {500}
    assert set(test.labels.bincount().tolist()) == {50}
    pixels = train.images.transpose(0, 1).flatten(1).double() / 255
    mean, std = dataset.normalization
    tolerance = 1e-4 if len(here) == 200 else 0.03
    assert pixels.mean(1).tolist() == pytest.approx(mean, abs=tolerance)
    assert pixels.std(1, correction=0).tolist() == pytest.approx(std, abs=tolerance)
