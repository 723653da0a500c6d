"""Decoding of JPEG files and the cache of their pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import DataError
from harness_vision.pictures import decode, load_pictures
from vision.tiny_copy import (
    FOLDER,
    TEST,
    TRAIN,
    WNIDS,
    append_byte,
    load,
    load_error,
    train_path,
    validation_path,
    write_jpeg,
)

SHAPE = (3, 64, 64)


def caches(root: Path) -> list[Path]:
    """Return the cache files under a data root."""
    return sorted(root.glob("*.safetensors"))


def make_undecodable(root: Path) -> None:
    """Overwrite every image with zeros; names and sizes, by which a cache is found, stay the same."""
    for path in (root / FOLDER).rglob("*.JPEG"):
        path.write_bytes(bytes(path.stat().st_size))


def test_chunk_size_does_not_matter(tiny: Path) -> None:
    """Images decoded in several chunks, the last one smaller, are those decoded in one."""
    paths = [train_path(tiny, wnid, number) for wnid in WNIDS for number in range(4)]
    assert torch.equal(decode(paths, SHAPE, chunk_size=5), decode(paths, SHAPE))


def test_damaged_picture_in_a_later_chunk(tiny: Path) -> None:
    """The error of a thread reaches the caller."""
    paths = [train_path(tiny, WNIDS[0], number) for number in range(8)]
    paths[7].write_bytes(b"")
    with pytest.raises(DataError, match=f"{paths[7]}: damaged or no JPEG"):
        decode(paths, SHAPE, chunk_size=3)


def test_cache_is_used(tiny: Path) -> None:
    """A second load needs no JPEG file and gives the same; the root holds one cache file and no lock."""
    first = load(tiny)
    make_undecodable(tiny)
    second = load(tiny)
    for a, b in zip(first, second):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    assert sorted(path.name for path in tiny.iterdir()) == sorted([FOLDER, caches(tiny)[0].name])


def test_each_selection_has_its_cache(tiny: Path) -> None:
    """Every choice of classes and sizes has a cache file with its images only."""
    sizes = []
    for selection in ({}, {"wnids": WNIDS[:2]}, {"train_size": 5, "test_size": 1}):
        before = set(caches(tiny))
        load(tiny, **selection)
        [new] = set(caches(tiny)) - before
        sizes.append(new.stat().st_size // (3 * 64 * 64))
    assert sizes == [3 * (TRAIN + TEST), 2 * (TRAIN + TEST), 6]


def test_stale_cache(tiny: Path) -> None:
    """After an image has changed its size in bytes, all images are decoded again into another cache."""
    load(tiny)
    append_byte(train_path(tiny, WNIDS[0], 1))
    load(tiny)
    assert len(caches(tiny)) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "nonsense", "empty"])
def test_damaged_cache(tiny: Path, damage: str) -> None:
    """The images are decoded again, and the new cache is used from then on."""
    train, _ = load(tiny)
    pixels = train.images.clone()
    del train  # it is mapped from the cache
    [cache] = caches(tiny)
    content = bytearray(cache.read_bytes())
    content[-1] ^= 1
    flipped = bytes(content)
    cache.unlink()
    cache.write_bytes({"truncated": flipped[:-10], "flipped": flipped, "nonsense": b"nonsense", "empty": b""}[damage])
    assert torch.equal(load(tiny)[0].images, pixels)
    make_undecodable(tiny)
    assert torch.equal(load(tiny)[0].images, pixels)


def test_damaged_cache_and_damaged_pictures(tiny: Path) -> None:
    """The damaged cache is not used: decoding fails."""
    load(tiny)
    [cache] = caches(tiny)
    cache.write_bytes(b"nonsense")
    make_undecodable(tiny)
    assert "damaged or no JPEG" in load_error(tiny)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Images are decoded each time, without an error, if the system refuses the name of the cache and of its lock."""
    folder = tmp_path / ("x" * 250)
    path = folder / "0.JPEG"
    write_jpeg(path, WNIDS[0], 1)
    for _ in range(2):
        train, test = load_pictures(folder, [(path, 0)], [(path, 1)], SHAPE)
        assert torch.equal(train.images, test.images)
    assert list(tmp_path.iterdir()) == [folder]


def test_unreadable_picture(tiny: Path) -> None:
    """The message names a file that has gone after the folder was listed."""
    path = validation_path(tiny, 0)
    path.unlink()
    with pytest.raises(DataError) as caught:
        load_pictures(tiny / FOLDER, [(path, 0)], [], SHAPE)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory)"
