"""What the plugin kinds supply that know no handles: architectures, data sets, objectives, derivations, metrics.

Importing this file costs no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.api.plugin import Plugin, full_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.api.ensemble import EvaluatedEnsemble


class Architecture(Plugin):
    """A network.

    A family registers under a name that ends in `/<…>` (`timm/<name>`): `variant` then holds what stood in that place.
    """

    variant: str | None = None

    @property
    def full_name(self) -> str:
        """The registered name, with the variant of a family: `timm/resnet18`."""
        return full_name({"name": self.name, "variant": self.variant})

    @classmethod
    def variants(cls) -> Iterable[str]:
        """Return the family's known variants; empty for a single architecture, or when they cannot be listed."""
        return ()

    def located(self, data: Path) -> Architecture:
        """Return the network as this machine can build it: itself, unless `build` reads a file.

        Then the digest of the file is part of the `identity` of what is returned. Plans and tasks ask for this first; `harness
        check` does not. `data` is the data root. Raise `UserError` if the file is missing, with what to put where.
        """
        return self

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise `UserError` if this network is not the one that a task's identity describes: if a file is another.

        Called after `located`, before `build`. Name, version, options and variant agree.
        """

    @abstractmethod
    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return a freshly initialized network from images (batch, *shape), shape = (channels, height, width), to logits
        (batch, classes).

        torch's generator is seeded from the trajectory's init stream around this call: initialize as usual.
        """

    @cached_property
    def identity(self) -> dict[str, Any]:
        """As for any plugin, with the variant of a family."""
        own = super().identity
        return own if self.variant is None else {**own, "variant": self.variant}


@dataclass(frozen=True)
class Split:
    """Images and labels of one split: uint8 (n, channels, height, width) and int64 (n,), on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Dataset(Plugin):
    """An image classification data set that fits in memory."""

    def located(self, root: Path) -> Dataset:
        """Return the data set as it lies under a data root: itself, unless its options leave to the root what it holds.

        Plans and tasks ask for this first; `harness check` does not. Raise `DataError` if the root does not hold what the
        options name.
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
        """The number of training images: known before the data is read."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What identifies the data itself (published digests, say); part of every key. `load` refuses anything else."""

    @property
    @abstractmethod
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, of pixel values in [0, 1]."""

    @abstractmethod
    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the test split, read from the data root (downloaded there where the net allows).

        Raise `DataError` with one line that says which file to put where.
        """


class Objective(Plugin):
    """What a training minimizes."""

    default: ClassVar[bool] = False
    """Whether it is the objective of benchmarks that name none. Subclasses do not inherit it."""
    needs_teacher: ClassVar[bool] = False
    teacher_view: Literal["augmented", "plain"] = (
        "augmented"  # what the teacher sees: the student's images, or those as they are
    )
    epoch_cost: ClassVar[float] = 1.0  # an epoch's cost against one of plain training: forward 1, backward 2, of 3

    @abstractmethod
    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the scalar loss, the mean over the batch.

        Logits, and the teacher's on the same images, are (batch, classes), labels int64 (batch,); `label_smoothing` is the
        recipe's.
        """

    def simplified(self) -> Objective:
        """Return a plainer objective that is this one exactly (distillation with β = 1, say), or itself."""
        return self


StateDict = dict[str, "torch.Tensor"]
"""A network's state dict: parameters and buffers by name, on the CPU."""


@dataclass(frozen=True)
class DerivationContext:
    """Where a derivation works: the network's architecture as a builder, the data, the device and its random stream."""

    network: Any  # () -> nn.Module, freshly initialized
    train: Split
    test: Split
    normalize: Any  # uint8 images (batch, …) -> float32 images
    device: Any  # torch.device
    stream: int  # key for harness.streams


class Derivation(Plugin):
    """Weights computed from other weights without training: an alignment, an average."""

    outputs: int = 1

    @abstractmethod
    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the derived states (as many as `outputs`; may not alias the parents) and facts for the object's
        meta-data (JSON)."""


@dataclass(frozen=True)
class MetricValue:
    """One number of a metric, as it goes into a row."""

    metric: str
    value: float
    standard_error: float | None = None
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""


class Metric(Plugin):
    """Turns an evaluated ensemble into numbers. The metric's `name` is the name of its main value."""

    default: ClassVar[bool] = False
    """Whether benchmarks that name no metrics measure it. Subclasses do not inherit it."""

    @abstractmethod
    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the values, the main one (named as the metric is) first."""

    def check(self, members: int) -> None:
        """Raise `ValueError` if ensembles of M members cannot be measured."""
