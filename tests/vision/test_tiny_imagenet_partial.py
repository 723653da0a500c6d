"""Copies of Tiny ImageNet that lack classes or images: refused, or used with the option `classes: present`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import toys
from harness import DataError, UserError
from harness.benchmark import load_benchmark
from harness.execution.environment import TaskEnvironment
from harness.plan.planner import plan
from vision.tiny_copy import (
    FOLDER,
    TEST,
    TRAIN,
    WNIDS,
    ThreeClasses,
    advice,
    append_byte,
    load,
    load_error,
    options,
    present,
    present_error,
    remove_class,
    restore_class,
    train_path,
    validation_path,
)

BENCHMARK = """
seeds: [0]
members: 1
datasets: [three_classes: {classes: present}]
architectures: [resnet20: {width: 0.25}]
methods: [deep]
metrics: [mean_member_accuracy]
recipe: {epochs: 1, batch_size: 8, learning_rate: 0.05}
"""

# Refused


def test_class_is_missing(tiny: Path) -> None:
    """The message says how many classes there are, and the option that uses them; named classes are used."""
    remove_class(tiny, WNIDS[1])
    assert load_error(tiny) == (
        f"{tiny / FOLDER / 'train'}: 2 of the 3 classes are there; to use these alone, set the option "
        f"`classes: present`; for all, {advice(tiny)}"
    )
    train, _ = load(tiny, wnids=[WNIDS[0], WNIDS[2]])
    assert len(train) == 2 * TRAIN


def test_named_class_is_missing(tiny: Path) -> None:
    """The message names it."""
    remove_class(tiny, WNIDS[1])
    assert load_error(tiny, wnids=WNIDS[:2]) == (
        f"{tiny / FOLDER / 'train'}: 1 of the 2 `wnids` are missing ({WNIDS[1]}); {advice(tiny)}"
    )


def test_no_class(tiny: Path) -> None:
    """A missing and an empty folder of training images are refused."""
    folder = tiny / FOLDER / "train"
    folder.rename(tiny / "removed")
    assert load_error(tiny) == f"{folder}: cannot be read (No such file or directory); {advice(tiny)}"
    folder.mkdir()
    assert load_error(tiny) == f"{folder}: none of the 3 classes is there; {advice(tiny)}"


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        (f"train/{WNIDS[1]}/images", f"{WNIDS[1]}_3.JPEG", f"{TRAIN - 1} images of class {WNIDS[1]}, expected {TRAIN}"),
        ("val/images", "val_0.JPEG", f"{TEST - 1} images of class {WNIDS[2]}, expected {TEST}"),
    ],
)
def test_picture_is_missing(tiny: Path, folder: str, name: str, expected: str) -> None:
    """The message names folder and class; files with other than the published names do not count."""
    path = tiny / FOLDER / folder
    (path / name).rename(path / f"._{name}")
    assert load_error(tiny) == f"{path}: {expected}; {advice(tiny)}"


def test_annotations_are_missing(tiny: Path) -> None:
    """The message names the file."""
    path = tiny / FOLDER / "val" / "val_annotations.txt"
    path.unlink()
    assert load_error(tiny).startswith(f"{path}: cannot be read (")


# With `classes: present`


def test_present_classes(tiny: Path) -> None:
    """The located data set knows their number, names and images, and has its own fingerprint."""
    remove_class(tiny, WNIDS[1])
    dataset = present(tiny)
    assert (dataset.num_classes, dataset.train_size, dataset.wnids) == (2, 2 * TRAIN, (WNIDS[0], WNIDS[2]))
    assert dataset.identity["options"]["wnids"] == [WNIDS[0], WNIDS[2]]
    assert re.fullmatch("tiny-imagenet-200:present:[0-9a-f]{64}", dataset.fingerprint)
    for split, named in zip(dataset.load(tiny), load(tiny, wnids=[WNIDS[0], WNIDS[2]])):
        assert torch.equal(split.images, named.images)
        assert torch.equal(split.labels, named.labels)


def test_complete_copy_is_the_official_data_set(tiny: Path) -> None:
    """Identity and fingerprint are those of the official data set, so results are shared."""
    found = present(tiny, train_size=7)
    official = ThreeClasses(options(train_size=7))
    assert found.identity == official.identity
    assert found.fingerprint == official.fingerprint


def test_same_copy_elsewhere(tiny: Path, tmp_path: Path) -> None:
    """The fingerprint is the same, and another after an image has changed its size."""
    remove_class(tiny, WNIDS[1])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny / FOLDER, elsewhere / FOLDER)
    assert present(elsewhere).fingerprint == present(tiny).fingerprint
    append_byte(validation_path(elsewhere, 1))
    assert present(elsewhere).fingerprint != present(tiny).fingerprint


def test_other_classes_than_planned(tiny: Path) -> None:
    """A worker with another copy says in which classes it differs."""
    remove_class(tiny, WNIDS[1])
    planned = present(tiny)
    restore_class(tiny, WNIDS[1])
    with pytest.raises(DataError) as caught:
        ThreeClasses(planned.options).located(tiny)
    assert str(caught.value) == (
        f"{tiny / FOLDER / 'train'}: 3 classes are there, expected 2; not expected: {WNIDS[1]}; {advice(tiny)}"
    )
    remove_class(tiny, WNIDS[2])
    message = present_error(tiny, wnids=[WNIDS[0], WNIDS[2]])
    assert f"2 classes are there, expected 2; missing: {WNIDS[2]}; not expected: {WNIDS[1]}; " in message


def test_before_it_is_located() -> None:
    """The data set has a fingerprint, as `harness check` needs, and no number of classes."""
    dataset = ThreeClasses(options(classes="present", train_size=10_000))
    assert dataset.fingerprint == "tiny-imagenet-200:present:"
    with pytest.raises(DataError, match="the classes are known once the data set is located in a root"):
        _ = dataset.num_classes


def test_more_images_than_the_present_classes_have(tiny: Path) -> None:
    """The size is refused when the data set is located."""
    remove_class(tiny, WNIDS[1])
    assert present_error(tiny, train_size=30) == (
        f"{tiny / FOLDER / 'train'}: train_size is 30, but 2 classes have 24 images; at most that many, or null"
    )


def test_present_class_without_all_its_images(tiny: Path) -> None:
    """The class is refused when the data set is located."""
    remove_class(tiny, WNIDS[1])
    path = train_path(tiny, WNIDS[0], 3)
    path.unlink()
    assert present_error(tiny) == f"{path.parent}: {TRAIN - 1} images of class {WNIDS[0]}, expected {TRAIN}; {advice(tiny)}"


def test_fewer_than_two_classes(tiny: Path) -> None:
    """One class or none is refused."""
    folder = tiny / FOLDER / "train"
    remove_class(tiny, WNIDS[0])
    remove_class(tiny, WNIDS[1])
    assert present_error(tiny) == f"{folder}: only 1 of the 3 classes is there, at least 2; {advice(tiny)}"
    remove_class(tiny, WNIDS[2])
    assert present_error(tiny) == f"{folder}: none of the 3 classes is there; {advice(tiny)}"


def test_plan_and_task_find_the_same_classes(tiny: Path, tmp_path: Path) -> None:
    """A task's network has one logit per class found by the plan; a copy that has changed is refused."""
    remove_class(tiny, WNIDS[1])
    path = tmp_path / "b.yaml"
    path.write_text(BENCHMARK)
    catalogue = toys.catalogue(("dataset", ThreeClasses))
    benchmark = load_benchmark(path, catalogue).located(tiny)
    assert benchmark.resolved()["datasets"][0]["options"]["wnids"] == [WNIDS[0], WNIDS[2]]
    [task, *_] = plan(benchmark).tasks.values()
    environment = TaskEnvironment(catalogue, task.spec.setting, tiny, torch.device("cpu"))
    assert environment.module()(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    append_byte(validation_path(tiny, 1))
    expected = "data set 'three_classes' is not the one the task was made for: its fingerprint differs"
    with pytest.raises(UserError, match=expected):
        TaskEnvironment(catalogue, task.spec.setting, tiny, torch.device("cpu"))
