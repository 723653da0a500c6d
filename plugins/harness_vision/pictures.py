"""Pictures on disk → one uint8 tensor, with a cache beside their folder. Knows no data set.

Decoding 100,000 JPEGs takes minutes, reading them decoded a second. The cache's name holds a digest of the files' names and
sizes, its metadata one of the pixels: another set of files finds another cache, and a damaged one is made anew. Where the
folder above is read-only there is simply none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness import DataError, Split
from harness_vision.archives import alone

Shape = tuple[int, int, int]
CHUNK = 256
"""Pictures that a thread decodes in one go."""


def load_pictures(
    folder: Path, train: Sequence[tuple[Path, int]], test: Sequence[tuple[Path, int]], shape: Shape
) -> tuple[Split, Split]:
    """Return the listed pictures of a folder with their labels as two splits; every picture must have the shape."""
    listing = [*train, *test]
    images = _cached([path for path, _ in listing], folder, shape)
    labels, n = torch.tensor([label for _, label in listing]), len(train)
    return Split(images[:n], labels[:n]), Split(images[n:], labels[n:])


def decode(paths: Sequence[Path], shape: Shape) -> Tensor:
    """Return pictures as uint8 (n, channels, height, width), gray ones as RGB; raise `DataError` naming a damaged file."""
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)
    array = images.numpy()

    def decode_chunk(start: int) -> None:
        for row, path in enumerate(paths[start : start + CHUNK], start):
            array[row] = _decode_one(path, shape)

    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))  # Pillow lets go of the interpreter while it decodes
    try:
        for _ in pool.map(decode_chunk, range(0, len(paths), CHUNK)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def _decode_one(path: Path, shape: Shape) -> np.ndarray:
    _, height, width = shape
    try:
        with Image.open(path, formats=["JPEG"]) as picture:
            if picture.size != (width, height):
                raise DataError(f"{path}: {picture.size[0]}×{picture.size[1]} pixels, expected {width}×{height}")
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for files that are none, or cut short
        raise DataError(f"{path}: damaged or no JPEG ({' '.join(str(error).split())}); unpack the archive again") from None


def _cached(paths: Sequence[Path], folder: Path, shape: Shape) -> Tensor:
    """Return the decoded pictures from the cache beside the folder, made now if there is no good one."""
    cache = folder.parent / f"{folder.name}.{_listing_digest(paths, folder)[:16]}.safetensors"
    size = (len(paths), *shape)
    images = _read_cache(cache, size)
    if images is None:
        with alone(folder.parent, cache.name):
            images = _read_cache(cache, size)  # another process may have made it meanwhile
            if images is None:
                images = decode(paths, shape)
                _write_cache(cache, images)
    return images


def _listing_digest(paths: Sequence[Path], folder: Path) -> str:
    try:
        listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _read_cache(cache: Path, size: tuple[int, ...]) -> Tensor | None:
    """Return the cached pictures, mapped from the file, so that processes share them; None if it is not there or damaged."""
    try:
        with safe_open(cache, "pt") as file:
            images, expected = file.get_tensor("images"), (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    good = images.dtype == torch.uint8 and tuple(images.shape) == size and _pixel_digest(images) == expected
    return images if good else None


def _write_cache(cache: Path, images: Tensor) -> None:
    """Write the cache aside and rename it; where that cannot be, leave it."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{cache.name}.", dir=cache.parent, ignore_cleanup_errors=True) as aside:
            made = Path(aside) / cache.name
            save_file({"images": images}, made, {"sha256": _pixel_digest(images)})
            made.replace(cache)
    except (OSError, SafetensorError):  # a read-only root, a full disk
        pass


def _pixel_digest(images: Tensor) -> str:
    return hashlib.sha256(images.numpy().data).hexdigest()
