"""Decode JPEG files into one uint8 tensor, and cache the pixels in a file beside their folder. Knows no data set.

Decoding 100,000 JPEG files takes minutes; reading their decoded pixels takes a second. The name of the cache holds a digest of
the names and sizes of the JPEG files, so another set of files has another cache. Its metadata holds a digest of the pixels, so
a damaged cache is detected and replaced. If the cache cannot be written (a read-only data root), there is none.
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
from harness_vision.archives import exclusive_lock

Shape = tuple[int, int, int]
"""(channels, height, width)."""

CHUNK_SIZE = 256
"""Images that a thread decodes per work item."""


def load_pictures(
    folder: Path, train: Sequence[tuple[Path, int]], test: Sequence[tuple[Path, int]], shape: Shape
) -> tuple[Split, Split]:
    """Return the listed (path, label) pairs of a folder's images as two splits; every image must have the given shape."""
    listing = [*train, *test]
    images = _load_cached([path for path, _ in listing], folder, shape)
    labels = torch.tensor([label for _, label in listing])
    n = len(train)
    return Split(images[:n], labels[:n]), Split(images[n:], labels[n:])


def decode(paths: Sequence[Path], shape: Shape, *, chunk_size: int = CHUNK_SIZE) -> Tensor:
    """Return images as uint8 (n, channels, height, width), gray ones as RGB.

    Raise `DataError` that names the file if one is damaged or has another size.
    """
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)
    array = images.numpy()

    def decode_chunk(start: int) -> None:
        for row, path in enumerate(paths[start : start + chunk_size], start):
            array[row] = _decode_one(path, shape)

    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))  # Pillow releases the GIL while it decodes
    try:
        for _ in pool.map(decode_chunk, range(0, len(paths), chunk_size)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def _decode_one(path: Path, shape: Shape) -> np.ndarray:
    """Return one image as uint8 (channels, height, width)."""
    _, height, width = shape
    try:
        with Image.open(path, formats=["JPEG"]) as picture:
            if picture.size != (width, height):
                raise DataError(f"{path}: {picture.size[0]}×{picture.size[1]} pixels, expected {width}×{height}")
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for other formats and truncated files
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged or no JPEG ({reason}); unpack the archive again") from None


def _load_cached(paths: Sequence[Path], folder: Path, shape: Shape) -> Tensor:
    """Return the decoded images from the cache beside the folder; if there is no valid cache, decode and write it."""
    cache = folder.parent / f"{folder.name}.{_listing_digest(paths, folder)[:16]}.safetensors"
    size = (len(paths), *shape)
    images = _read_cache(cache, size)
    if images is None:
        with exclusive_lock(folder.parent, cache.name):
            images = _read_cache(cache, size)  # another process may have written it meanwhile
            if images is None:
                images = decode(paths, shape)
                _write_cache(cache, images)
    return images


def _listing_digest(paths: Sequence[Path], folder: Path) -> str:
    """Return the sha256, in hex, of the names and sizes of files."""
    try:
        listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _read_cache(cache: Path, size: tuple[int, ...]) -> Tensor | None:
    """Return the cached images, memory-mapped, so that processes share them; None if the cache is missing or damaged."""
    try:
        with safe_open(cache, "pt") as file:
            images = file.get_tensor("images")
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    if images.dtype != torch.uint8 or tuple(images.shape) != size:
        return None
    if _pixel_digest(images) != metadata.get("sha256"):
        return None
    return images


def _write_cache(cache: Path, images: Tensor) -> None:
    """Write the cache to a temporary folder and rename it; do nothing if it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{cache.name}.", dir=cache.parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / cache.name
            save_file({"images": images}, temporary, {"sha256": _pixel_digest(images)})
            temporary.replace(cache)
    except (OSError, SafetensorError):  # a read-only root, a full disk
        pass


def _pixel_digest(images: Tensor) -> str:
    """Return the sha256 of the pixels, in hex."""
    return hashlib.sha256(images.numpy().data).hexdigest()
