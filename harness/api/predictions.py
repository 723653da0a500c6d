"""Predictions of an ensemble's members on the images of a split. Importing this module does not import torch."""

from __future__ import annotations

from functools import cached_property

import numpy as np


class Predictions:
    """The members' logits on a split, and what follows from them. The arrays are read-only, because metrics share them."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.logits = read_only(logits)
        """The members' logits on the images, float32 (members, examples, classes)."""
        self.labels = read_only(labels)
        """The true classes of the images, int64 (examples,). On images of other classes they are 0 and mean nothing."""

    @property
    def size(self) -> int:
        """M, the number of members."""
        return self.logits.shape[0]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[2]

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """Logarithms of `probabilities`, float64 (members, examples, classes)."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=2, keepdims=True)
        return read_only(shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True)))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 (members, examples, classes)."""
        return read_only(np.exp(self.log_probabilities))

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each member classifies each example correctly, bool (members, examples)."""
        return read_only(self.logits.argmax(axis=2) == self.labels)


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view
