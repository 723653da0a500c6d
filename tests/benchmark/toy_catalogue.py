"""A catalogue of plugins that do nothing, and benchmark files that use them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, model_validator

import harness
from harness import Architecture, Dataset, EnsembleBuilder, Metric, Objective, Recipe
from harness.benchmark import Benchmark, load_benchmark
from harness.errors import BenchmarkError, PluginError
from harness.registry.catalogue import Catalogue, Registration
from harness.registry.discovery import Source

KNOWN_AT_TOP = (
    "architectures, datasets, description, equivalence, members, methods, metrics, name, objective, observe, recipe, "
    "seeds, settings"
)
KNOWN_IN_RECIPE = (
    "augmentation, batch_size, betas, clip_norm, epochs, eps, label_smoothing, learning_rate, momentum, nesterov, "
    "normalization, optimizer, precision, warmup, weight_decay"
)
SEEDS = "a list of at least 1 (each an integer of at least 0), such as [0, 1, 2]"
ENTRY = "not an entry; a name, or 'name: {option: value}' with the options indented below the name"


class Plain(Dataset):
    """Pictures."""

    name, shape, num_classes, train_size, fingerprint = "cifar10", (3, 32, 32), 10, 1000, "f"
    normalization = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    load = None


class Sized(Plain):
    """Pictures of a size."""

    name = "tiny_imagenet"

    class Options(harness.Options):
        """Options."""

        side: int = Field(64, ge=8)


class Network(Architecture):
    """A network."""

    name, build = "resnet20", None

    class Options(harness.Options):
        """Options."""

        width: int = Field(4, ge=1, description="channels")


class Family(Architecture):
    """Many networks."""

    name, build = "timm/<name>", None

    class Options(harness.Options):
        """Options."""

        pretrained: bool = False

    @classmethod
    def variants(cls) -> Iterable[str]:
        return "resnet18", "vit_base"


class Deep(EnsembleBuilder):
    """Independent runs."""

    name, build = "deep", None


class Constrained(EnsembleBuilder):
    """Runs that share a trunk."""

    name, build = "constrained", None

    class Options(harness.Options):
        """Options."""

        fork_epoch: int | None = Field(None, ge=0, description="t")
        inherit: bool = True

    def check(self, recipe: Recipe, members: int) -> None:
        fork = self.options.fork_epoch
        if fork is not None and fork >= recipe.epochs:
            raise ValueError(f"fork_epoch is {fork}; at most epochs - 1 = {recipe.epochs - 1}")


class Distilled(EnsembleBuilder):
    """Students."""

    name, build = "distilled", None

    class Options(harness.Options):
        """Options."""

        fork_epoch: int = Field(..., ge=0, description="t, which has no default")
        beta: float = Field(0.2, ge=0, le=1)
        teacher: Literal["own", "next"] = "own"
        layers: tuple[int, ...] = ()

        @model_validator(mode="after")
        def _layers_for_next(self) -> Distilled.Options:
            if self.teacher == "next" and not self.layers:
                raise ValueError("teacher 'next' learns layer by layer; list the layers")
            return self


class Refusing(EnsembleBuilder):
    """A builder whose constructor raises an error."""

    name, build = "refusing", None

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        raise PluginError("the solver is not installed;\ninstall it")


class Accuracy(Metric):
    """Accuracy of the average."""

    name, measure, default = "ensemble_accuracy", None, True


class MeanAccuracy(Accuracy):
    """Average of the accuracies."""

    name, default = "mean_member_accuracy", True


class Connectivity(Accuracy):
    """Connectivity."""

    name, default = "joint_connectivity", True

    class Options(harness.Options):
        """Options."""

        draws: int = Field(50, ge=1)

    def check(self, members: int) -> None:
        if members < 2:
            raise ValueError("needs at least 2 members, not 1")


class CrossEntropy(Objective):
    """Plain."""

    name, loss, default = "cross_entropy", None, True


class Smoothed(CrossEntropy):
    """With a constant."""

    name = "smoothed"

    class Options(harness.Options):
        """Options."""

        amount: float = 0.1


class Distillation(CrossEntropy):
    """With a teacher."""

    name, needs_teacher = "distillation", True


class Marked(CrossEntropy):
    """A second default."""

    name, default = "marked", True


class Unmarked(CrossEntropy):
    """A subclass of a default is none."""

    name = "unmarked"


PLUGINS: dict[str, list[Any]] = {
    "dataset": [Plain, Sized],
    "architecture": [Network, Family],
    "ensemble_builder": [Deep, Constrained, Distilled, Refusing],
    "metric": [Accuracy, MeanAccuracy, Connectivity],
    "objective": [CrossEntropy, Smoothed, Distillation],
}
for classes in (*PLUGINS.values(), [Marked, Unmarked]):
    for cls in classes:
        cls.__abstractmethods__ = frozenset()  # they can be instantiated without their methods


def catalogue_of(plugins: dict[str, list[Any]]) -> Catalogue:
    """Return a catalogue of plugin classes by kind."""
    registrations = []
    for kind, found in plugins.items():
        registrations += [Registration(kind, plugin.name, plugin, Source("toys", "tests 0")) for plugin in found]
    return Catalogue(registrations)


CATALOGUE = catalogue_of(PLUGINS)


def file_text(
    more: str = "",
    *,
    seeds: str = "[0]",
    datasets: str = "[cifar10]",
    architectures: str = "[resnet20]",
    methods: str = "[deep]",
) -> str:
    """Return the text of a file: seeds, datasets, architectures and methods in lines 1 to 4, and `more` from line 5."""
    return f"seeds: {seeds}\ndatasets: {datasets}\narchitectures: {architectures}\nmethods: {methods}\n{more}"


def load(folder: Path, content: str | bytes, *overrides: str) -> Benchmark:
    """Load a benchmark file."""
    return load_benchmark(write(folder, content), CATALOGUE, overrides)


def write(folder: Path, content: str | bytes) -> Path:
    """Write a benchmark file and return its path."""
    path = folder / "b.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def problems(folder: Path, content: str | bytes, *overrides: str) -> list[str]:
    """Return the problems of an invalid file."""
    with pytest.raises(BenchmarkError) as caught:
        load(folder, content, *overrides)
    return without_folder(caught.value, folder)


def without_folder(error: BenchmarkError, folder: Path) -> list[str]:
    """Return the lines of an error, with the path of the file shortened to its name."""
    return [line.replace(str(folder / "b.yaml"), "b.yaml") for line in error.problems]
