"""A validated benchmark as frozen values, with all names and options resolved. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.api.evaluation_set import evaluation_sets
from harness.api.interfaces import Dataset, Objective
from harness.api.options import options_json
from harness.api.recipe import Recipe
from harness.errors import HarnessError, PluginError
from harness.text import describe_error

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue


@dataclass(frozen=True)
class LabeledPlugin:
    """A plugin with its options, and the label that tables and rows show."""

    label: str
    plugin: Any

    def resolved(self) -> dict[str, Any]:
        """Return label, name, version and options (JSON)."""
        return {"label": self.label, **self.plugin.identity}

    def located(self, root: Path) -> LabeledPlugin:
        """Return a data set or an architecture as defined by the files under the data root, or a method by a folder's."""
        try:
            return replace(self, plugin=self.plugin.located(root))
        except HarnessError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{self.plugin.full_name}: located raised {describe_error(error)}") from error


@dataclass(frozen=True)
class CellSpec:
    """One dataset × architecture × method × seed, with everything that defines its ensemble."""

    dataset: LabeledPlugin
    architecture: LabeledPlugin
    method: LabeledPlugin
    seed: int
    members: int
    recipe: Recipe
    objective: Objective


@dataclass(frozen=True)
class Setup:
    """A dataset × architecture with the recipe and the methods that the settings give it."""

    dataset: LabeledPlugin
    architecture: LabeledPlugin
    recipe: Recipe
    methods: tuple[LabeledPlugin, ...]

    def resolved(self) -> dict[str, Any]:
        """Return labels, recipe and methods (JSON)."""
        return {
            "dataset": self.dataset.label,
            "architecture": self.architecture.label,
            "recipe": options_json(self.recipe),
            "methods": _resolved(self.methods),
        }


@dataclass(frozen=True)
class Benchmark:
    """A validated benchmark: seeds, metrics, objective, and the setups with their methods.

    `catalogue` holds the plugins that its names were found in. `equivalence` holds margins by metric, in the metric's unit:
    differences between methods that are smaller do not matter. `observers` follow its runs; they are no part of what defines
    the cells.
    """

    name: str
    description: str
    path: Path
    seeds: tuple[int, ...]
    members: int
    datasets: tuple[LabeledPlugin, ...]
    architectures: tuple[LabeledPlugin, ...]
    metrics: tuple[LabeledPlugin, ...]
    objective: Objective
    setups: tuple[Setup, ...]
    catalogue: Catalogue = field(compare=False)
    equivalence: Mapping[str, float] = field(default_factory=dict)
    observers: tuple[LabeledPlugin, ...] = ()

    def cells(self) -> Iterator[CellSpec]:
        """Yield every cell, ordered by dataset, architecture, method and seed. Cells share plugins and recipes."""
        for setup in self.setups:
            for method in setup.methods:
                for seed in self.seeds:
                    yield CellSpec(setup.dataset, setup.architecture, method, seed, self.members, setup.recipe, self.objective)

    @property
    def leaves_precision_open(self) -> bool:
        """Whether a recipe says `precision: auto`."""
        return any(setup.recipe.precision == "auto" for setup in self.setups)

    def in_precision(self, precision: Literal["fp32", "bf16"]) -> Benchmark:
        """Return the benchmark with `precision: auto` replaced, so that it states what is trained on any device."""
        recipes: dict[int, Recipe] = {}  # by the old recipe's id: setups that share a recipe still share it

        def with_precision(setup: Setup) -> Setup:
            recipe = setup.recipe
            if recipe.precision == "auto":
                recipe = recipes.setdefault(id(recipe), recipe.model_copy(update={"precision": precision}))
            return replace(setup, recipe=recipe)

        return replace(self, setups=tuple(map(with_precision, self.setups)))

    def located(self, data: Path) -> Benchmark:
        """Return the benchmark with its data sets and architectures located under the data root `data`.

        Methods are located in the folder of the benchmark file. Keys depend on files of this machine: which classes and which
        weights exist. The files of evaluation sets must be there, too. Raise `UserError` for a missing file.
        """
        datasets = {id(dataset.plugin): dataset.located(data) for dataset in self.datasets}
        architectures = {id(architecture.plugin): architecture.located(data) for architecture in self.architectures}
        for dataset in datasets.values():
            self._locate_evaluation_sets(dataset.plugin, data)

        def with_located(setup: Setup) -> Setup:
            dataset = datasets[id(setup.dataset.plugin)]
            return replace(setup, dataset=dataset, architecture=architectures[id(setup.architecture.plugin)])

        benchmark = self.with_located_methods()
        return replace(
            benchmark,
            datasets=tuple(datasets.values()),
            architectures=tuple(architectures.values()),
            setups=tuple(map(with_located, benchmark.setups)),
        )

    def _locate_evaluation_sets(self, dataset: Dataset, data: Path) -> None:
        """Raise `UserError` if the data root lacks a file of an evaluation set that a metric names."""
        located: list[Any] = []
        for metric in self.metrics:
            for evaluation_set in evaluation_sets(metric.plugin).values():
                if evaluation_set.identity in located:
                    continue
                located.append(evaluation_set.identity)
                try:
                    evaluation_set.locate(dataset, data)
                except HarnessError:
                    raise
                except Exception as error:  # a plugin may raise anything
                    raise PluginError(f"{evaluation_set.full_name}: locate raised {describe_error(error)}") from error

    def with_located_methods(self) -> Benchmark:
        """Return the benchmark with its methods located in the folder of its file. No data root is needed.

        Raise `UserError` for a missing file.
        """
        methods: dict[int, LabeledPlugin] = {}
        for method in chain.from_iterable(setup.methods for setup in self.setups):
            if id(method.plugin) not in methods:
                methods[id(method.plugin)] = method.located(self.path.parent)

        def with_located(setup: Setup) -> Setup:
            return replace(setup, methods=tuple(methods[id(method.plugin)] for method in setup.methods))

        return replace(self, setups=tuple(map(with_located, self.setups)))

    def resolved(self) -> dict[str, Any]:
        """Return everything that defines the cells (JSON), defaults included, without the path of the file."""
        return {
            "name": self.name,
            "description": self.description,
            "seeds": list(self.seeds),
            "members": self.members,
            "datasets": _resolved(self.datasets),
            "architectures": _resolved(self.architectures),
            "metrics": _resolved(self.metrics),
            "equivalence": dict(self.equivalence),
            "objective": self.objective.identity,
            "pairs": [setup.resolved() for setup in self.setups],
        }


def _resolved(plugins: tuple[LabeledPlugin, ...]) -> list[dict[str, Any]]:
    return [plugin.resolved() for plugin in plugins]
