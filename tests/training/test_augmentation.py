"""Augmentation against torchvision with the same draws, its statistics, and its independence of grouping."""

from __future__ import annotations

import colorsys
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torchvision.transforms.v2 import functional as tv

from harness import streams
from harness.api.recipe import Augmentation
from harness.training.augmentation import DRAWS, Augmenter, Draws, PaddedImages, adjust_hue, apply, draw

KEY = streams.key("test", "augmentation", 3)
NOTHING = Augmentation(crop_padding=0, horizontal_flip=False, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
FULL = Augmentation(crop_padding=4, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5)
ONE_BY_ONE = {
    "crop": NOTHING.model_copy(update={"crop_padding": 3}),
    "flip": NOTHING.model_copy(update={"horizontal_flip": True}),
    "brightness": NOTHING.model_copy(update={"brightness": 0.9}),
    "contrast": NOTHING.model_copy(update={"contrast": 0.9}),
    "saturation": NOTHING.model_copy(update={"saturation": 0.9}),
    "hue": NOTHING.model_copy(update={"hue": 0.5}),
    "the whole chain": FULL,
    "the default": Augmentation(),
}


def some_images(n=24, channels=3, height=12, width=9):
    """Return images for every branch: noise, grays, black, white, and the corners of the color cube."""
    images = streams.bits(KEY, torch.arange(n * channels * height * width)).to(torch.uint8)
    images = images.view(n, channels, height, width)
    images[0] = 0
    images[1] = 255
    images[2] = images[2, :1]
    images[3] = torch.where(images[3] > 127, 255, 0)
    return images


def by_torchvision(image, draws, augmentation, i):
    """Return one image, uint8 (channels, height, width), augmented by torchvision with the i-th draws."""
    height, width = image.shape[-2:]
    image = tv.pad(image, [augmentation.crop_padding] * 4)
    image = tv.crop(image, int(draws.top[i]), int(draws.left[i]), height, width)
    if draws.flip[i]:
        image = tv.horizontal_flip(image)
    image = tv.to_dtype(image, torch.float32, scale=True)
    image = tv.adjust_brightness(image, float(draws.brightness[i]))
    image = tv.adjust_contrast(image, float(draws.contrast[i]))
    image = tv.adjust_saturation(image, float(draws.saturation[i]))
    if augmentation.hue:
        image = tv.adjust_hue(image, float(draws.hue[i]))
    return image


def rotated(red, green, blue, shift):
    """Return one pixel with its hue rotated by the standard library."""
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)


def global_states():
    """Return the states of torch's and numpy's global generators."""
    return torch.random.get_rng_state(), np.random.get_state()[1].copy()


@pytest.fixture
def augmenter():
    """Small images with every augmentation."""
    return Augmenter(some_images(), FULL, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_same_draws_as_torchvision(augmentation, channels):
    """Each operation, and all in sequence, give torchvision's pixels; with hue, to torchvision's rounding."""
    images = some_images(channels=channels)
    indices = torch.arange(len(images))
    draws = draw(augmentation, KEY, indices)
    found = apply(PaddedImages(images, augmentation.crop_padding), indices, draws, augmentation)
    expected = torch.stack([by_torchvision(image, draws, augmentation, i) for i, image in enumerate(images)])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 if augmentation.hue else 5e-7)


@pytest.mark.parametrize("shift", [-0.5, -1 / 3, -1 / 6, 0.0, 1 / 6, 1 / 3, 0.5])
def test_hue_shift_on_a_sextant_boundary(shift):
    """Shifts of pure colors to the boundaries of the hue formula agree with the standard library, in float64."""
    planes = some_images().transpose(0, 1).flatten(2) / 255
    expected = [rotated(*pixel, shift) for pixel in planes.flatten(1).T.tolist()]
    found = adjust_hue(planes, torch.full((24, 1), shift)).flatten(1).T
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=5e-7)


def test_plain_images_are_normalized(augmenter):
    """Without augmentation a batch equals torchvision's to_dtype and normalize, to the bit."""
    indices = torch.tensor([5, 0, 7])
    expected = tv.normalize(tv.to_dtype(some_images()[indices], torch.float32, scale=True), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert torch.equal(augmenter.plain(indices), expected)


def test_augmentation_of_strength_zero():
    """It gives the plain images."""
    nothing = Augmenter(some_images(), NOTHING, (0.5,) * 3, (0.2,) * 3)
    indices = torch.arange(24)
    assert torch.equal(nothing(indices, KEY), nothing.plain(indices))


@pytest.mark.parametrize(
    "augmentation", [NOTHING, FULL, Augmentation(crop_padding=1, brightness=0.5)], ids=["none", "same", "other"]
)
def test_varied_augmenter(augmenter, augmentation):
    """It gives the batches of an augmenter that was made with the other augmentation; the first one is unchanged."""
    indices = torch.tensor([3, 1, 20])
    before = augmenter(indices, KEY)
    made = Augmenter(some_images(), augmentation, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    varied = augmenter.varied(augmentation)
    assert torch.equal(varied(indices, KEY), made(indices, KEY))
    assert torch.equal(varied.plain(indices), made.plain(indices))
    assert torch.equal(augmenter(indices, KEY), before)


def test_batch_is_augmented_and_normalized(augmenter):
    """A call equals draw, apply, subtraction of the mean, and division by the standard deviation."""
    indices = torch.tensor([3, 1, 20])
    images = apply(augmenter.images, indices, draw(FULL, KEY, indices), FULL)
    assert torch.equal(augmenter(indices, KEY), tv.normalize(images, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))


def test_memory_is_channels_last(augmenter):
    """A batch has the memory format that is fastest for convolutions."""
    batch = augmenter(torch.arange(8), KEY)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert augmenter.plain(torch.arange(8)).is_contiguous(memory_format=torch.channels_last)
    assert augmenter(torch.arange(8).view(2, 4), KEY)[1].is_contiguous(memory_format=torch.channels_last)


def test_images_of_five_channels():
    """Brightness and contrast apply, with the mean as the gray image; hue and saturation do not."""
    images = some_images(channels=5)
    indices = torch.arange(len(images))
    augmentation = NOTHING.model_copy(update={"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5})
    draws = draw(augmentation, KEY, indices)
    bright = (images / 255 * draws.brightness.view(-1, 1, 1, 1)).clamp(0, 1)
    mean, factor = bright.mean((1, 2, 3), keepdim=True), draws.contrast.view(-1, 1, 1, 1)
    expected = (bright * factor + mean * (1 - factor)).clamp(0, 1)
    found = apply(PaddedImages(images, 0), indices, draws, augmentation)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    channels=st.sampled_from([1, 2, 3, 4]),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    padding=st.integers(0, 5),
    members=st.integers(1, 3),
    batch=st.integers(1, 5),
    hue=st.sampled_from([0.0, 0.3]),
    key=st.integers(0, 2**63),
)
def test_grouping_does_not_change_a_bit(channels, height, width, padding, members, batch, hue, key):
    """Indices (members, batch) with one key per member give each image as it is alone, for all shapes."""
    augmentation = Augmentation(crop_padding=padding, brightness=0.3, contrast=0.3, saturation=0.3, hue=hue)
    augmenter = Augmenter(some_images(8, channels, height, width), augmentation, (0.5,) * channels, (0.2,) * channels)
    indices = torch.tensor([[(5 * m + 3 * b) % 8 for b in range(batch)] for m in range(members)])
    keys = torch.tensor([[streams.signed(key + m)] for m in range(members)])
    together = augmenter(indices, keys)
    assert together.shape == (members, batch, channels, height, width)
    for m in range(members):
        assert torch.equal(together[m], augmenter(indices[m], key + m))
        for b in range(batch):
            assert torch.equal(together[m, b], augmenter(indices[m, b : b + 1], key + m)[0])


@pytest.mark.parametrize("size", [(32, 32), (33, 31), (64, 64)])
def test_batch_size_does_not_change_a_bit(size):
    """A batch of real image sizes equals its parts, in any order, with one thread or two, to the bit."""
    height, width = size
    augmenter = Augmenter(some_images(200, 3, height, width), FULL, (0.5,) * 3, (0.2,) * 3)
    order = streams.permutation(KEY, 200)
    whole = augmenter(order, KEY)
    assert torch.equal(whole, torch.cat([augmenter(part, KEY) for part in order.split(67)]))
    assert torch.equal(whole[order.argsort()], augmenter(torch.arange(200), KEY))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(whole, augmenter(order, KEY))
    finally:
        torch.set_num_threads(threads)


def test_image_twice_in_a_batch(augmenter):
    """The same index and key give the same image."""
    batch = augmenter(torch.tensor([4, 9, 4]), KEY)
    assert torch.equal(batch[0], batch[2])


def test_other_key(augmenter):
    """The key of another epoch changes every image but the black one."""
    indices = torch.arange(1, 24)
    same = augmenter(indices, KEY) == augmenter(indices, KEY + 1)
    assert not same.flatten(1).all(1).any()


def test_key_as_tensor(augmenter):
    """A key in a tensor, as a captured step has it, gives what the integer gives."""
    indices = torch.arange(10)
    assert torch.equal(augmenter(indices, KEY), augmenter(indices, torch.tensor(streams.signed(KEY))))


def test_empty_batch(augmenter):
    """An empty batch of indices gives an empty batch of images."""
    assert augmenter(torch.arange(0), KEY).shape == (0, 3, 12, 9)


def test_images_are_not_modified(augmenter):
    """In-place operations do not change the stored images."""
    before = augmenter.plain(torch.arange(24))
    augmenter(torch.arange(24), KEY)
    assert torch.equal(augmenter.plain(torch.arange(24)), before)


def test_global_generators_are_not_used(augmenter):
    """The states of torch's and numpy's generators do not change, and the results do not depend on them."""
    torch_state, numpy_state = global_states()
    first = augmenter(torch.arange(24), KEY)
    assert torch.equal(global_states()[0], torch_state)
    assert (global_states()[1] == numpy_state).all()
    with streams.seeded(1):
        assert torch.equal(augmenter(torch.arange(24), KEY), first)


MANY = torch.arange(90_000)


def test_crop_offsets_are_uniform():
    """Every offset from 0 to twice the padding is drawn equally often, top and left independently."""
    draws = draw(Augmentation(crop_padding=4), KEY, MANY)
    assert draws.top.dtype == draws.left.dtype == torch.int64
    counts = torch.bincount(draws.top * 9 + draws.left, minlength=81)
    assert len(counts) == 81
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("padding", [0, 1, 3, 64])
def test_range_of_crop_offsets(padding):
    """Offsets are from 0 to twice the padding; both ends occur."""
    draws = draw(Augmentation(crop_padding=padding), KEY, MANY)
    for offset in (draws.top, draws.left):
        assert (int(offset.min()), int(offset.max())) == (0, 2 * padding)


def test_half_of_the_images_are_flipped():
    """Flips have probability 1/2, or 0 without horizontal flips."""
    assert draw(FULL, KEY, MANY).flip.float().mean() == pytest.approx(0.5, abs=0.01)
    assert not draw(NOTHING, KEY, MANY).flip.any()


@pytest.mark.parametrize(
    ("name", "center", "radius"), [("brightness", 1, 0.4), ("contrast", 1, 0.4), ("saturation", 1, 0.4), ("hue", 0, 0.5)]
)
def test_factors_are_uniform(name, center, radius):
    """Factors are uniform in center ± strength."""
    values = getattr(draw(FULL, KEY, MANY), name).double()
    assert center - radius - 1e-6 <= values.min() < center - 0.999 * radius
    assert center + 0.999 * radius < values.max() <= center + radius + 1e-6
    assert chisquare(torch.histc(values, 20, center - radius, center + radius)).pvalue > 0.001


def test_draws_are_independent():
    """Draws are not correlated with each other, with those of the next image, or with those of the next key."""
    one, two = draw(FULL, KEY, MANY), draw(FULL, KEY + 1, MANY)
    rows = [getattr(one, f.name).double() for f in fields(Draws)]
    rows += [row.roll(1) for row in rows] + [getattr(two, f.name).double() for f in fields(Draws)]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert correlation.abs().max() < 5 / len(MANY) ** 0.5


def test_one_strength_does_not_change_the_other_draws():
    """With hue, for example, the crops are the same as without."""
    one, two = draw(Augmentation(), KEY, MANY), draw(Augmentation(hue=0.1), KEY, MANY)
    for field in fields(Draws):
        assert torch.equal(getattr(one, field.name), getattr(two, field.name)) == (field.name != "hue")


def test_draws_do_not_overlap():
    """Counters of different images are different."""
    assert len(fields(Draws)) <= DRAWS


def test_draws_have_the_shape_of_the_indices():
    """Draws of (members, batch) indices are (members, batch)."""
    draws = draw(FULL, KEY, torch.arange(6).view(2, 3))
    assert {getattr(draws, f.name).shape for f in fields(Draws)} == {(2, 3)}


def test_images_of_another_dtype_or_shape():
    """The error has the dtype and shape, and the expected ones."""
    with pytest.raises(ValueError, match=r"torch\.float32 \(2, 3, 4, 4\); wanted torch\.uint8 \(n, channels, height, width\)"):
        PaddedImages(torch.zeros(2, 3, 4, 4), 0)
    with pytest.raises(ValueError, match=r"torch\.uint8 \(3, 4, 4\); wanted"):
        PaddedImages(torch.zeros(3, 4, 4, dtype=torch.uint8), 0)


def test_normalization_of_another_number_of_channels():
    """Three means for one channel are refused."""
    with pytest.raises(ValueError, match="normalization: 3 means and 1 deviations for 1 channels"):
        Augmenter(some_images(channels=1), FULL, (0.5,) * 3, (0.2,))


def test_padding_of_another_augmentation():
    """Images that were padded for another crop are refused."""
    indices = torch.arange(2)
    with pytest.raises(ValueError, match="padded by 2, the augmentation crops with 4"):
        apply(PaddedImages(some_images(), 2), indices, draw(FULL, KEY, indices), FULL)


def test_augmentation_compiles_to_one_graph(augmenter):
    """The compiler traces a whole call: no value is read back, and no branch depends on one."""
    indices, key = torch.arange(10), torch.tensor(streams.signed(KEY))
    compiled = torch.compile(augmenter, fullgraph=True, backend="eager")
    assert torch.equal(compiled(indices, key), augmenter(indices, key))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_augmentation_in_a_cuda_graph(augmenter):
    """Captured once and replayed with other indices and another key, it gives what the CPU gives."""
    on_device = Augmenter(some_images(), FULL, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "cuda")
    indices, key = torch.arange(8, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")
    on_device(indices, key)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        batch = on_device(indices, key)
    indices.copy_(torch.arange(8, 16))
    key.fill_(streams.signed(KEY))
    graph.replay()
    torch.testing.assert_close(batch.cpu(), augmenter(torch.arange(8, 16), KEY), rtol=0, atol=1e-5)
