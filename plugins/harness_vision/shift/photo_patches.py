"""`photo_patches`: patches of scikit-learn's two sample photographs, as images of other classes. It needs no download."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from harness import DataError, Dataset, EvaluationSet, Split
from harness_vision.shift.options import image_text

_SIDE = 32  # pixels of a photograph that a patch shows, whatever the size of the data set's images
_PHOTOS = {
    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}
"""The photographs' file names and sha256."""


class PhotoPatches(EvaluationSet):
    """520 patches of two photographs, a temple and a flower: images that are of none of the classes of digits or CIFAR.

    A patch is a square of 32×32 pixels without overlap, averaged over boxes to the size of the data set's images; for gray
    images, the luma of the photograph.
    """

    name, version = "photo_patches", 1
    paired = False
    out_of_distribution = True

    def check(self, dataset: Dataset) -> None:
        """Raise `ValueError` for images with other channels than gray or RGB, or larger than 32×32."""
        super().check(dataset)
        channels, height, width = dataset.shape
        if channels not in (1, 3) or max(height, width) > _SIDE:
            raise ValueError(
                f"evaluation set 'photo_patches' exists for images with 1 or 3 channels of at most {_SIDE}×{_SIDE} pixels; "
                f"those of {image_text(dataset)}"
            )

    def splits(self, dataset: Dataset) -> tuple[str, ...]:
        """All patches."""
        return ("photo_patches",)

    def fingerprint(self, dataset: Dataset, split: str) -> str:
        """The digests of the photographs."""
        return " ".join(f"{name}:{digest}" for name, digest in _PHOTOS.items())

    def locate(self, dataset: Dataset, root: Path) -> None:
        """Check the photographs of the installed scikit-learn."""
        for name in _PHOTOS:
            _photo(name)

    def load(self, dataset: Dataset, split: str, root: Path) -> Split:
        """Return the patches, row by row of each photograph, with the label 0."""
        import numpy as np
        import torch
        from PIL import Image

        channels, height, width = dataset.shape
        patches = []
        for name in _PHOTOS:
            with Image.open(_photo(name)) as opened:
                picture = opened.convert("L" if channels == 1 else "RGB")
            for top in range(0, picture.height - _SIDE + 1, _SIDE):
                for left in range(0, picture.width - _SIDE + 1, _SIDE):
                    box = (left, top, left + _SIDE, top + _SIDE)
                    patch = picture.resize((width, height), Image.Resampling.BOX, box)
                    patches.append(np.asarray(patch).reshape(height, width, channels))
        images = np.ascontiguousarray(np.stack(patches).transpose(0, 3, 1, 2))
        return Split(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64))


def _photo(name: str) -> Path:
    """Return the path of a photograph in the installed scikit-learn; raise `DataError` for another one, or for none."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("photo_patches: scikit-learn is not installed; install it")
    path = Path(found.origin).parent / "datasets" / "images" / name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; reinstall scikit-learn") from None
    if digest != _PHOTOS[name]:
        raise DataError(f"{path}: not the known photograph: sha256 {digest}, expected {_PHOTOS[name]}; reinstall scikit-learn")
    return path
