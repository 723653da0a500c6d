"""Interface of evaluation sets: further test images for data sets by name. Importing this module does not import torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from harness.api.data import Split
from harness.api.interfaces import Dataset, Metric
from harness.api.plugin import Plugin


class EvaluationSet(Plugin):
    """Splits of further test images for a data set: corrupted images, or images of other classes.

    class Inverted(EvaluationSet):
        name = "inverted"

        def splits(self, dataset):
            return ("inverted",)

        def fingerprint(self, dataset, split):
            return "255 minus the test images"

        def load(self, dataset, split, root):
            _, test = dataset.load(root)
            return Split(255 - test.images, test.labels)

    Metrics with an option `splits` name one. Each member is evaluated once on each split, whatever number of metrics asks.
    `check` and `locate` are called before anything is trained.
    """

    datasets: ClassVar[tuple[str, ...]] = ()
    """Names of the data sets that it exists for; empty for every data set that `check` accepts."""
    shape: ClassVar[tuple[int, int, int] | None] = None
    """(channels, height, width) of its images; None if they have the shape of the data set's."""
    paired: ClassVar[bool] = True
    """Whether image i of every split is test image i in another form, with the same label."""
    out_of_distribution: ClassVar[bool] = False
    """Whether its images are of none of the data set's classes. Their labels are then 0 and mean nothing."""

    def check(self, dataset: Dataset) -> None:
        """Raise `ValueError` if it does not exist for a data set. Reads no files. An override calls this one first."""
        name = f"evaluation set '{self.full_name}'"
        if self.shape is not None and tuple(self.shape) != tuple(dataset.shape):
            own, given = _shape_text(self.shape), _shape_text(dataset.shape)
            raise ValueError(f"{name} has images of {own}; those of data set '{dataset.full_name}' are {given}")
        if self.datasets and dataset.name not in self.datasets:
            raise ValueError(f"{name} exists for {', '.join(self.datasets)}, not for data set '{dataset.full_name}'")

    @abstractmethod
    def splits(self, dataset: Dataset) -> Sequence[str]:
        """Return the names of its splits for a data set, in order, each once. Options may select some."""

    @abstractmethod
    def fingerprint(self, dataset: Dataset, split: str) -> str:
        """Return a text that identifies the images of a split, such as the published digest of its file.

        It is part of the keys of predictions, together with name and version. Options that change images must change it;
        options that select splits should not, so that predictions are shared.
        """

    def locate(self, dataset: Dataset, root: Path) -> None:
        """Raise `DataError` if a file under the data root is missing or not the published one, in one line that helps.

        Called for every plan, but not by `harness check`.
        """

    @abstractmethod
    def load(self, dataset: Dataset, split: str, root: Path) -> Split:
        """Return a split in the form of the test split: uint8 images of the data set's shape, and labels.

        Raise `DataError` for other data than the fingerprint names.
        """


def evaluation_sets(metric: Metric) -> dict[str, EvaluationSet]:
    """Return the evaluation sets that a metric's options name, by option."""
    return {option: plugin for option, plugin in metric.chosen.items() if isinstance(plugin, EvaluationSet)}


def _shape_text(shape: Sequence[int]) -> str:
    channels, height, width = shape
    noun = "channel" if channels == 1 else "channels"
    return f"{height}×{width} pixels with {channels} {noun}"
