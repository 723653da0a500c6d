"""The generator of corrupted images: noise-free ones against independent computations, noise against its distribution."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from sklearn.datasets import load_sample_image

import harness
from harness import Split
from harness.registry.catalogue import load_catalogue
from harness.testing import check_evaluation_set
from harness_vision.digits import Digits
from harness_vision.shift.appearance import clouds
from harness_vision.shift.blurs import disk
from harness_vision.shift.c_like import CORRUPTIONS, CLike, corrupt
from harness_vision.shift.draws import Draws

SEVERITIES = (1, 2, 3, 4, 5)


class Photos(harness.Dataset):
    """Twelve 32×32 color images of a photograph."""

    name, version = "photos", 1
    shape = (3, 32, 32)
    num_classes, train_size, fingerprint = 3, 4, "photos"
    normalization = ((0.5,) * 3, (0.25,) * 3)

    def load(self, root: Path) -> tuple[Split, Split]:
        images = torch.from_numpy(photographs()).permute(0, 3, 1, 2).contiguous()
        return Split(images[:4], torch.arange(4) % 3), Split(images, torch.arange(12) % 3)


def photographs() -> np.ndarray:
    """Return 32×32 color images with all kinds of pixels: black, white, gray, saturated."""
    photo = load_sample_image("flower.jpg")
    images = np.stack([photo[top : top + 32, left : left + 32] for top in (0, 128, 256) for left in (0, 128, 256, 384)])
    images[0, :4, :4] = 0
    images[0, 4:8, :4] = 255
    images[0, 8:12, :4] = 77
    images[0, 12:16, :4] = (255, 0, 0)
    return images


def expected_pixels(image: np.ndarray, change: Callable[[float, float, float], tuple[float, float, float]]) -> np.ndarray:
    """Return an image whose pixels were changed in HSV by the standard library's conversions."""
    found = np.empty(image.shape)
    for row, column in np.ndindex(image.shape[:2]):
        hsv = colorsys.rgb_to_hsv(*(image[row, column] / 255.0))
        found[row, column] = colorsys.hsv_to_rgb(*change(*hsv))
    return found


def brightness(image: np.ndarray, severity: int) -> np.ndarray:
    added = [0.05, 0.1, 0.15, 0.2, 0.3][severity - 1]
    return expected_pixels(image, lambda h, s, v: (h, s, min(1.0, v + added)))


def saturate(image: np.ndarray, severity: int) -> np.ndarray:
    factor, added = [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)][severity - 1]
    return expected_pixels(image, lambda h, s, v: (h, min(1.0, s * factor + added), v))


def contrast(image: np.ndarray, severity: int) -> np.ndarray:
    factor = [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1]
    found = np.empty(image.shape)
    for channel in range(3):
        plane = image[..., channel] / 255.0
        found[..., channel] = plane.mean() + factor * (plane - plane.mean())
    return found


def gaussian_blur(image: np.ndarray, severity: int) -> np.ndarray:
    deviation = [0.4, 0.6, 0.7, 0.8, 1.0][severity - 1]
    reach = int(4 * deviation + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    kernel /= kernel.sum()
    padded = np.pad(image / 255.0, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    found = np.zeros(image.shape)
    for down, right in np.ndindex(2 * reach + 1, 2 * reach + 1):
        found += kernel[down] * kernel[right] * padded[down : down + 32, right : right + 32]
    return found


def zoom_blur(image: np.ndarray, severity: int) -> np.ndarray:
    factors = np.arange(1, [1.06, 1.11, 1.16, 1.21, 1.26][severity - 1], 0.01)
    total = image / 255.0
    for factor in factors:
        side = int(np.ceil(32 / factor))
        top = (32 - side) // 2
        enlarged = zoom(image[top : top + side, top : top + side] / 255.0, (factor, factor, 1), order=1, mode="nearest")
        trim = (len(enlarged) - 32) // 2
        total = total + enlarged[trim : trim + 32, trim : trim + 32]
    return total / (len(factors) + 1)


def pixelate(image: np.ndarray, severity: int) -> np.ndarray:
    """Average over boxes by exact areas, round, and enlarge by exact areas."""
    small = int(32 * [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1])

    def resized(values: np.ndarray, size: int) -> np.ndarray:
        scale = len(values) / size
        weights = np.zeros((size, len(values)))
        for target in range(size):
            first = int(max(0.0, (target + 0.5) * scale - max(scale, 1) / 2 + 0.5))
            last = int(min(len(values), (target + 0.5) * scale + max(scale, 1) / 2 + 0.5))
            weights[target, first:last] = 1 / (last - first)
        across = np.rint(np.einsum("oi,hic->hoc", weights, values))
        return np.rint(np.einsum("oi,iwc->owc", weights, across))

    return resized(resized(image.astype(np.float64), small), 32) / 255.0


NOISE_FREE = [brightness, contrast, saturate, pixelate, gaussian_blur, zoom_blur]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("reference", NOISE_FREE, ids=lambda reference: reference.__name__)
def test_corruptions_without_noise(reference: Callable[[np.ndarray, int], np.ndarray], severity: int) -> None:
    """They agree with the published constants within one gray level; floats are truncated."""
    images = photographs()[:4]
    found = corrupt(images, "photos", reference.__name__, severity)
    for image, given in zip(images, found, strict=True):
        expected = (255 * np.clip(reference(image, severity), 0, 1) + 1e-9).astype(np.uint8)
        assert np.abs(expected.astype(int) - given.astype(int)).max() <= 1
        assert not np.array_equal(given, image)


@pytest.mark.parametrize(
    ("corruption", "deviations"),
    [
        ("gaussian_noise", [0.04, 0.06, 0.08, 0.09, 0.10]),
        ("speckle_noise", [0.5 * s for s in (0.06, 0.1, 0.12, 0.16, 0.2)]),
        ("shot_noise", [np.sqrt(0.5 / rate) for rate in (500, 250, 100, 75, 50)]),
    ],
)
def test_noise_has_the_published_deviation(corruption: str, deviations: list[float]) -> None:
    """On a gray image of 0.5 mean and deviation are those of the formula."""
    images = np.full((40, 32, 32, 3), 128, dtype=np.uint8)
    for severity, deviation in zip(SEVERITIES, deviations, strict=True):
        noisy = corrupt(images, "gray", corruption, severity) / 255.0
        assert noisy.mean() == pytest.approx(128 / 255, abs=0.003)
        assert noisy.std() == pytest.approx(deviation, rel=0.02)


def test_impulse_noise_has_the_published_share() -> None:
    """Half of the changed values are 0, the other half 255."""
    images = np.full((40, 32, 32, 3), 128, dtype=np.uint8)
    for severity, share in zip(SEVERITIES, (0.01, 0.02, 0.03, 0.05, 0.07), strict=True):
        noisy = corrupt(images, "gray", "impulse_noise", severity)
        error = np.sqrt(share / 2 / noisy.size)
        assert (noisy == 0).mean() == pytest.approx(share / 2, abs=4 * error)
        assert (noisy == 255).mean() == pytest.approx(share / 2, abs=4 * error)


def test_noise_belongs_to_image_corruption_severity_and_data_set() -> None:
    """An image's noise does not depend on how many images there are; other names and severities have other noise."""
    images = np.full((4, 32, 32, 3), 128, dtype=np.uint8)
    all_four = corrupt(images, "gray", "gaussian_noise", 3)
    np.testing.assert_array_equal(corrupt(images[:2], "gray", "gaussian_noise", 3), all_four[:2])
    assert not np.array_equal(all_four[0], all_four[1])
    assert not np.array_equal(corrupt(images, "other", "gaussian_noise", 3), all_four)
    first = Draws(("c_like", "gray", "gaussian_noise", 3), 0, 4).uniform(6)
    np.testing.assert_array_equal(Draws(("c_like", "gray", "gaussian_noise", 3), 2, 2).uniform(6), first[2:])
    assert not np.array_equal(Draws(("c_like", "gray", "gaussian_noise", 4), 0, 4).uniform(6), first)


def test_chunks_make_no_difference() -> None:
    """More images than are corrupted at once get the images of smaller calls."""
    images = np.repeat(photographs()[:2], 260, axis=0)[:, :8, :8, :1].copy()
    found = corrupt(images, "many", "shot_noise", 5)
    np.testing.assert_array_equal(corrupt(images[:30], "many", "shot_noise", 5), found[:30])
    assert not np.array_equal(found[0], found[1])


def test_disk_of_defocus_blur() -> None:
    """Its sum is 1; the smallest radius is one smoothed pixel, and radius 1 is a plus of five."""
    for radius, deviation in ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)):
        assert disk(radius, deviation).sum() == pytest.approx(1)
    one = np.zeros((7, 7))
    one[3, 3] = 1
    side = np.exp(-1 / (2 * 0.4**2))
    assert disk(0.3, 0.4)[3, 2:5] * (1 + 2 * side) ** 2 == pytest.approx([side, 1, side])
    assert (disk(1.0, 0.01)[2:5, 2:5] > 0).astype(int).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def test_glass_blur_keeps_pixels_and_moves_them_by_one() -> None:
    """Without blur, an image keeps its border, its pixels as a whole, and none moves far in one round."""
    image = np.arange(32 * 32).reshape(1, 32, 32, 1) % 251
    moved = corrupt(image.astype(np.uint8), "ramp", "glass_blur", 1)
    np.testing.assert_array_equal(np.sort(moved.ravel()), np.sort(image.astype(np.uint8).ravel()))
    np.testing.assert_array_equal(moved[0, 0], image[0, 0].astype(np.uint8))
    assert not np.array_equal(moved, image)


def test_elastic_transform_of_a_constant_and_of_a_small_reach() -> None:
    """A constant image stays; the displacement at severity 1 is at most a few pixels."""
    constant = np.full((2, 32, 32, 3), 90, dtype=np.uint8)
    assert np.abs(corrupt(constant, "c", "elastic_transform", 3).astype(int) - 90).max() <= 1
    image = photographs()[:1]
    moved = corrupt(image, "photos", "elastic_transform", 5)
    blurred = gaussian_filter(image.astype(float), (0, 3, 3, 0))
    assert np.abs(gaussian_filter(moved.astype(float), (0, 3, 3, 0)) - blurred).mean() < 15


def test_clouds_are_in_range_and_differ() -> None:
    """Each map goes from 0 to 1, has the size of a power of two, and is smoother for a larger decay."""
    draws = Draws(("clouds",), 0, 20)
    rough, smooth = clouds(20, 1.75, draws), clouds(20, 3.0, draws)
    assert rough.shape == (20, 32, 32)
    for maps in (rough, smooth):
        assert (maps.min(axis=(1, 2)) == 0).all()
        assert (maps.max(axis=(1, 2)) == 1).all()
    assert not np.array_equal(rough[0], rough[1])
    assert np.abs(np.diff(rough, axis=2)).mean() > 1.2 * np.abs(np.diff(smooth, axis=2)).mean()


def test_compression_is_pillows() -> None:
    """The image is what Pillow reads of its JPEG of quality 40."""
    image = photographs()[3]
    path_free = corrupt(image[None], "photos", "jpeg_compression", 5)[0]
    assert 1 < np.abs(path_free.astype(int) - image).mean() < 20
    gray = np.asarray(Image.fromarray(image).convert("L"))[None, :8, :8, None]
    assert corrupt(gray, "gray", "jpeg_compression", 5).shape == (1, 8, 8, 1)


def test_splits_of_color_images_and_of_digits(tmp_path: Path) -> None:
    """32×32 color images have all 15 corruptions at 5 severities; digits lack the two that need color or more pixels."""
    check_evaluation_set(CLike(CLike.Options(severities=(5,))), Photos(), tmp_path)
    assert len(CLike().splits(Photos())) == 75
    names = {split.split("/")[0] for split in CLike().splits(Digits())}
    assert names == set(CORRUPTIONS) - {"saturate", "zoom_blur"}
    chosen = CLike(CLike.Options(corruptions=("fog", "contrast"), severities=(5, 1)))
    assert chosen.splits(Digits()) == ("fog/1", "fog/5", "contrast/1", "contrast/5")
    _, test = Digits().load(tmp_path)
    assert torch.equal(CLike().load(Digits(), "contrast/1", tmp_path).labels, test.labels)


def test_selections_share_fingerprints() -> None:
    """Options that select splits change no fingerprint."""
    few = CLike(CLike.Options(corruptions=("fog",), severities=(2,)))
    assert few.fingerprint(Digits(), "fog/2") == CLike().fingerprint(Digits(), "fog/2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severities": [0, 1]}, r"severity 0 does not exist; from 1 to 5"),
        ({"severities": [6]}, r"severity 6 does not exist; from 1 to 5"),
        ({"severities": [2, 2]}, r"severity 2 is named 2 times; name each once"),
        ({"corruptions": ["snow"]}, r"'snow' is none of the corruptions; known: gaussian_noise, "),
        ({"corruptions": []}, r"names no corruption; at least one, or null"),
        ({"corruptions": ["fog", "fog"]}, r"corruption 'fog' is named 2 times; name each once"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    """Each is refused in one line."""
    with pytest.raises(ValueError, match=message):
        CLike.Options(**options)


class Tiny(Photos):
    shape = (1, 4, 4)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (
            Tiny(),
            {},
            r"^evaluation set 'c_like' exists for images with 1 or 3 channels of 8 to 32 pixels a side; .* 4×4 ",
        ),
        (
            Digits(),
            {"corruptions": ("saturate",)},
            r"^corruption 'saturate' needs color, and the images of .* are gray",
        ),
        (Digits(), {"corruptions": ("zoom_blur",)}, r"^corruption 'zoom_blur' needs at least 16 pixels a side, .* have 8×8; "),
    ],
)
def test_images_that_do_not_allow_a_corruption(dataset: harness.Dataset, options: dict[str, object], message: str) -> None:
    """They are refused before training."""
    with pytest.raises(ValueError, match=message):
        CLike(CLike.Options(**options)).check(dataset)


def test_it_is_never_called_cifar_c() -> None:
    """Name and description say that it is a generator of our own."""
    cls = load_catalogue().get("evaluation_set", "c_like")
    assert cls.__doc__ is not None
    assert "never CIFAR-10-C" in " ".join(cls.__doc__.split())
