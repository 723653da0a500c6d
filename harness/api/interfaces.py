"""Interfaces of architectures, data sets, objectives and metrics.

Importing this module does not import torch. The other interfaces are in `builder`, `derivation`, `engine`, `figure` and
`observer`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.api.data import Split
from harness.api.plugin import Plugin, full_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from harness.api.ensemble import EvaluatedEnsemble


class Architecture(Plugin):
    """Builds a network for image classification.

    class Linear(Architecture):
        name = "linear"

        def build(self, shape, num_classes):
            return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))

    A class whose `name` ends in `/<…>`, such as `timm/<name>`, registers a family of architectures. A benchmark
    file then names a member of the family (`timm/resnet18`), and `variant` is the part after the slash (`resnet18`).
    """

    variant: str | None = None

    @property
    def full_name(self) -> str:
        """The registered name; in a family the member's name, such as `timm/resnet18`."""
        return full_name({"name": self.name, "variant": self.variant})

    @classmethod
    def variants(cls) -> Iterable[str]:
        """Return the known variants of the family.

        Return nothing for a single architecture, or if the variants cannot be listed; then any variant is accepted.
        """
        return ()

    def located(self, data: Path) -> Architecture:
        """Return an instance that `build` works on; this one by default.

        Override it if `build` reads a file. The returned instance must have the digest of the file in its
        `identity`, since the identity becomes part of every key. `data` is the data root. Called for every plan and
        every task, but not by `harness check`. Raise `UserError` if the file is missing; the message says which file
        to put where.
        """
        return self

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise `UserError` if a task was made for another file than the one this instance reads.

        `identity` is the identity of the architecture in the task. Its name, version, options and variant are equal
        to this instance's. Called after `located` and before `build`.
        """

    @abstractmethod
    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return a newly initialized network.

        `shape` is (channels, height, width). The network maps normalized float32 images (batch, *shape) to logits
        (batch, num_classes). torch's global generator is seeded from the trajectory's init stream around this call,
        so the usual initializers are reproducible.
        """

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity as for any plugin. A family adds its variant."""
        own = super().identity
        if self.variant is None:
            return own
        return {**own, "variant": self.variant}


class Dataset(Plugin):
    """An image classification data set that fits in memory.

    `shape`, `num_classes`, `train_size`, `fingerprint` and `normalization` must be known before the data is read:
    planning a benchmark reads no data.
    """

    def located(self, root: Path) -> Dataset:
        """Return an instance for a data root; this one by default.

        Override it if the content of the data root determines the properties below. Called for every plan and every
        task, but not by `harness check`. Raise `DataError` if the root lacks what the options name.
        """
        return self

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    @abstractmethod
    def train_size(self) -> int:
        """The number of training images."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that identifies the data, such as the published digests of its files. Part of every key.

        `load` must raise `DataError` for any other data.
        """

    @property
    @abstractmethod
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training images, with pixel values in [0, 1].

        Means are from 0 to 1, standard deviations from 0.001 to 1. A recipe may replace them (`recipe.normalization`).
        """

    @abstractmethod
    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the test split.

        Read them from the data root `root`, or download them into it if they are missing and the network allows.
        Raise `DataError` if that fails; its one-line message says which file to put where.
        """

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """Names of further splits that metrics and derivations can ask for, such as corrupted or held-out images.

        Not "train" or "test". A class attribute may replace this property.
        """
        return ()

    def load_split(self, name: str, root: Path) -> Split:
        """Return one of the `evaluation_splits`, in the form of the test split. Called when a metric first asks for it.

        The fingerprint covers these splits, too.
        """
        raise NotImplementedError(f"{self.full_name}.evaluation_splits names '{name}', but load_split is not defined")


class Objective(Plugin):
    """Computes the loss that a training minimizes.

    class SquaredError(Objective):
        name = "squared_error"

        def loss(self, logits, labels, *, teacher_logits=None, label_smoothing=0.0):
            targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
            return F.mse_loss(logits, targets)

    An objective may learn from a teacher: a network with fixed weights, in evaluation mode (knowledge distillation).
    """

    default: ClassVar[bool] = False
    """Whether benchmark files that name no objective use this one. Subclasses do not inherit it."""
    needs_teacher: ClassVar[bool] = False
    """Whether `loss` uses `teacher_logits`. A trajectory with such an objective must have a teacher."""
    teacher_view: Literal["augmented", "plain"] = "augmented"
    """Images that the teacher receives: the student's augmented images, or the same images without augmentation."""
    epoch_cost: ClassVar[float] = 1.0
    """Cost of one epoch, relative to an epoch of plain training (1/3 forward, 2/3 backward). Used by `harness plan`."""

    @abstractmethod
    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the loss, averaged over the batch: a floating-point scalar.

        `logits` are float32 (batch, classes), `labels` int64 (batch,). `teacher_logits` have the shape of `logits`;
        they are None unless `needs_teacher` is true. `label_smoothing` is the recipe's, in [0, 1).
        """

    def simplified(self) -> Objective:
        """Return a cheaper objective with exactly the same loss, or this one.

        Example: distillation with β = 1 is cross-entropy. Trainings with equal simplified objectives are shared.
        """
        return self


@dataclass(frozen=True)
class MetricValue:
    """One value that a metric computed for an ensemble. It becomes one row of `results.csv`.

    `value` and `standard_error` are in `unit`: "percent", "nats", or "" for a number without a unit. Accuracies and
    connectivity are in percent. `better` says which values are better; it is empty if neither is.

    `examples` are the contributions of the test images to a main value that is their mean, (images,), in `unit` and in the
    order of the test split. Runs keep them in `examples.npz`, so that methods can be compared image by image. Leave them out
    for a value that is no mean over images. They do not count when values are compared.
    """

    metric: str
    value: float
    standard_error: float | None = None
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    examples: np.ndarray | None = field(default=None, compare=False, repr=False)


class Metric(Plugin):
    """Measures an evaluated ensemble. The metric's `name` is the name of its main value.

    class Disagreement(Metric):
        name = "disagreement"
        title, symbol, better = "Disagreement", "D", ""

        def measure(self, ensemble):
            predictions = ensemble.logits.argmax(axis=2)
            differ = predictions[:, None] != predictions[None, :]
            pairs = ensemble.size * (ensemble.size - 1)
            yield MetricValue(self.name, 100 * differ.mean(axis=2).sum() / pairs, unit="percent")

        def check(self, members):
            if members < 2:
                raise ValueError(f"members is {members}; disagreement needs at least 2")
    """

    default: ClassVar[bool] = False
    """Whether benchmark files that name no metrics measure this one. Subclasses do not inherit it."""
    title: ClassVar[str] = ""
    """A short name for tables and figures, at most 40 characters; by default made of `name`."""
    symbol: ClassVar[str] = ""
    """An abbreviation or symbol for narrow tables, at most 12 characters, such as "NLL" or "q̄"; by default the title."""
    better: ClassVar[Literal["higher", "lower", ""] | None] = None
    """The direction of the main value, as in its `MetricValue`; None if the class does not declare it."""
    tolerance: ClassVar[float | None] = None
    """How far values of the same weights may differ between kinds of machines, in their unit; None for the unit's default."""

    needs_derivations: ClassVar[bool] = False
    """Whether values depend on how members were derived, such as the time it took. Weights alone do not tell, so a published
    run cannot be verified by measuring them again."""

    @property
    def key_identity(self) -> dict[str, Any]:
        """The identity in keys of measurements: `identity`, unless a metric keeps the keys that it had with other options."""
        return self.identity

    @abstractmethod
    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the values, the main one first. Names must be unique; the main value has the metric's name."""

    def check(self, members: int) -> None:
        """Raise `ValueError` if an ensemble of `members` members cannot be measured."""

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise `ValueError` if ensembles on a data set cannot be measured. Called before training; reads no data.

        The options `splits` that name an evaluation set are checked in any case.
        """
