"""What a benchmark file becomes: frozen values, everything resolved. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.api.interfaces import Objective
from harness.api.options import options_json
from harness.api.recipe import Recipe
from harness.errors import HarnessError, PluginError
from harness.text import describe_error


@dataclass(frozen=True)
class LabeledPlugin:
    """A plugin with its options, under the label that tables and rows show."""

    label: str
    plugin: Any

    def resolved(self) -> dict[str, Any]:
        """Return label, name, version and options (JSON)."""
        return {"label": self.label, **self.plugin.identity}

    def located(self, data: Path) -> LabeledPlugin:
        """Return a data set or an architecture as this machine's files define it; `data` is the data root."""
        try:
            return replace(self, plugin=self.plugin.located(data))
        except HarnessError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{self.plugin.full_name}: located raised {describe_error(error)}") from error


@dataclass(frozen=True)
class CellSpec:
    """One dataset × architecture × method × seed, everything resolved: it yields one ensemble."""

    dataset: LabeledPlugin
    architecture: LabeledPlugin
    method: LabeledPlugin
    seed: int
    members: int
    recipe: Recipe
    objective: Objective


@dataclass(frozen=True)
class Setup:
    """A dataset × architecture with its recipe and its methods, settings applied."""

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
    """A validated benchmark: what it compares, and the setups in which it compares it."""

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

    def cells(self) -> Iterator[CellSpec]:
        """Yield every cell: for dataset, for architecture, for method, for seed. Cells share plugins and recipes."""
        for setup in self.setups:
            for method in setup.methods:
                for seed in self.seeds:
                    yield CellSpec(setup.dataset, setup.architecture, method, seed, self.members, setup.recipe, self.objective)

    @property
    def leaves_precision_open(self) -> bool:
        """Whether a recipe says `precision: auto`."""
        return any(setup.recipe.precision == "auto" for setup in self.setups)

    def in_precision(self, precision: Literal["fp32", "bf16"]) -> Benchmark:
        """Return the benchmark with a precision in place of `auto`, so that it says what is trained on any device."""
        if not self.leaves_precision_open:
            return self
        recipes: dict[int, Recipe] = {}  # by the old recipe's id: setups go on sharing recipes
        setups = []
        for setup in self.setups:
            recipe = setup.recipe
            if recipe.precision == "auto":
                recipe = recipes.setdefault(id(recipe), recipe.model_copy(update={"precision": precision}))
            setups.append(replace(setup, recipe=recipe))
        return replace(self, setups=tuple(setups))

    def located(self, data: Path) -> Benchmark:
        """Return the benchmark with what depends on this machine's files read: which classes are there, which weights.

        Raise `UserError` where one is missing; no key can be computed without it.
        """
        datasets = {id(dataset.plugin): dataset.located(data) for dataset in self.datasets}
        architectures = {id(architecture.plugin): architecture.located(data) for architecture in self.architectures}
        setups = []
        for setup in self.setups:
            dataset = datasets[id(setup.dataset.plugin)]
            architecture = architectures[id(setup.architecture.plugin)]
            setups.append(replace(setup, dataset=dataset, architecture=architecture))
        return replace(
            self,
            datasets=tuple(datasets.values()),
            architectures=tuple(architectures.values()),
            setups=tuple(setups),
        )

    def resolved(self) -> dict[str, Any]:
        """Return everything that the cells are made of, defaults included (JSON). The path of the file is no part of it."""
        return {
            "name": self.name,
            "description": self.description,
            "seeds": list(self.seeds),
            "members": self.members,
            "datasets": _resolved(self.datasets),
            "architectures": _resolved(self.architectures),
            "metrics": _resolved(self.metrics),
            "objective": self.objective.identity,
            "pairs": [setup.resolved() for setup in self.setups],
        }


def _resolved(plugins: tuple[LabeledPlugin, ...]) -> list[dict[str, Any]]:
    return [plugin.resolved() for plugin in plugins]
