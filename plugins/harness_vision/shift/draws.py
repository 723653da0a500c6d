"""Random numbers per image: a pure function of data set, corruption, severity and the image's index in the test split."""

from __future__ import annotations

import numpy as np

from harness import streams

_HALF_STEP = 2.0**-25  # numbers of 24 bits are moved to the middles of their steps: never 0 or 1


class Draws:
    """Draws for consecutive images. `name` identifies the images' set; `first` is the index of the first one.

    Each call draws new numbers. An image's numbers do not depend on how many images there are.
    """

    def __init__(self, name: streams.Name, first: int, images: int) -> None:
        self._keys = [streams.signed(streams.key(*name, index)) for index in range(first, first + images)]
        self._drawn = 0

    def uniform(self, *shape: int) -> np.ndarray:
        """Return numbers in (0, 1), float64 (images, *shape)."""
        import torch

        count = int(np.prod(shape))
        counters = torch.arange(self._drawn, self._drawn + count)
        self._drawn += count
        numbers = streams.uniform(torch.tensor(self._keys)[:, None], counters).double().numpy()
        return (numbers + _HALF_STEP).reshape(len(self._keys), *shape)

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal numbers, float64 (images, *shape), by inversion."""
        from scipy.special import ndtri

        return np.asarray(ndtri(self.uniform(*shape)))
