"""What a plugin supplies: one abstract class a kind. Importing this file costs no torch.

A plugin is a class with a `name`, a `version` (raise it when results change: it is part of every key) and `Options`, a frozen
pydantic model whose fields and defaults `harness list` shows and whose values a benchmark file gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from harness.options import Options, options_json
from harness.stopwatch import Stopwatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.catalogue import Catalogue
    from harness.ensemble import EvaluatedEnsemble
    from harness.recipe import Recipe
    from harness.task import Outcome, Task
    from harness.trajectory import Cell, Weights


def full_name(identity: Mapping[str, Any]) -> str:
    """Return how messages call the plugin with an identity: its registered name, with the variant in a family's."""
    name: str = identity["name"]
    return name[: name.rindex("<")] + identity["variant"] if identity.get("variant") else name


AnyOptions: TypeAlias = Options
"""`Options` under a name that plugin classes, which have an `Options` of their own, do not hide."""


class Plugin(ABC):
    """Base of every kind: a name, a version and options. Two plugins of equal identity produce equal results."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type[AnyOptions]] = AnyOptions

    def __init__(self, options: AnyOptions | None = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of this plugin goes into keys: name, version and every option, defaults filled in."""
        return {"name": self.name, "version": self.version, "options": options_json(self.options)}

    @property
    def full_name(self) -> str:
        """How messages call the plugin; `name` is what it is registered under."""
        return self.name


class EnsembleBuilder(Plugin):
    """Says which weights make up an ensemble. It trains nothing: it returns handles.

    class DeepEnsemble(EnsembleBuilder):
        name = "deep"

        def build(self, cell):
            return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]
    """

    @abstractmethod
    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the ensemble's members, in order, as handles."""

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the options, defaults too, do not fit the recipe and M.

        The message names the option (`self.options.describe(…)` does), the recipe's value and what is allowed.
        """


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
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return a freshly initialised network from images (batch, *shape), shape = (channels, height, width), to logits
        (batch, classes).

        torch's generator is seeded from the trajectory's init stream around this call: initialise as usual.
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
    def classes(self) -> int:
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
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, of pixel values in [0, 1]."""

    @abstractmethod
    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the test split, read from the data root (downloaded there where the net allows).

        Raise `DataError` with one line that says which file to put where.
        """


class Objective(Plugin):
    """What a training minimises. `teacher` is the handle of the weights to learn from, for those that have one."""

    wants_teacher: ClassVar[bool] = False
    teacher_view: Literal["augmented", "plain"] = (
        "augmented"  # what the teacher sees: the student's images, or those as they are
    )
    epoch_cost: ClassVar[float] = 1.0  # an epoch's cost against one of plain training: forward 1, backward 2, of 3

    def __init__(self, options: AnyOptions | None = None, teacher: Weights | None = None) -> None:
        super().__init__(options)
        self.teacher = teacher

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


State = dict[str, "torch.Tensor"]
"""A network's state dict: parameters and buffers by name, on the CPU."""


@dataclass(frozen=True)
class Workbench:
    """Where a derivation works: the network's architecture as a builder, the data, the device and its random stream."""

    network: Any  # () -> nn.Module, freshly initialised
    train: Split
    test: Split
    normalise: Any  # uint8 images (batch, …) -> float32 images
    device: Any  # torch.device
    stream: int  # key for harness.streams


class Derivation(Plugin):
    """Weights computed from other weights without training: an alignment, an average."""

    outputs: int = 1

    @abstractmethod
    def derive(self, parents: Sequence[State], workbench: Workbench) -> tuple[Sequence[State], Mapping[str, Any]]:
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

    @abstractmethod
    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the values, the main one (named as the metric is) first."""

    def check(self, members: int) -> None:
        """Raise `ValueError` if ensembles of M members cannot be measured."""


@dataclass(frozen=True)
class Session:
    """What an engine needs to know to get tasks done, and whom to tell."""

    catalogue: Catalogue
    store: Path
    data: Path
    device: str
    emit: Callable[[dict[str, Any]], None]
    stopping: Callable[[], bool]
    threads: int = 1
    """CPU threads of each task: part of the numerics, so never what happens to be free."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """What this process's time goes to."""


class Engine(Plugin):
    """Gets ready tasks done somewhere. The graph and the question of what is done belong to the harness.

    Wherever an engine runs a task, it runs what `harness worker --task KEY --store PATH` runs.
    """

    @abstractmethod
    def open(self, session: Session) -> None:
        """Prepare; called once, before anything is submitted."""

    @property
    @abstractmethod
    def wants_work(self) -> bool:
        """Whether it could start another group now."""

    @abstractmethod
    def submit(self, group: Sequence[Task]) -> None:
        """Take a group of ready tasks; siblings come in one group, so that they can be trained together, or side by side."""

    @abstractmethod
    def wait(self) -> Sequence[Outcome]:
        """Block until some task has ended, and return how; raise `Interrupted` if asked to stop."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what was opened; called once, also after a failure."""
