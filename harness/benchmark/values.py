"""What a benchmark file becomes: frozen values, everything resolved. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.blame import told
from harness.errors import HarnessError, PluginError
from harness.interfaces import Objective
from harness.options import options_json
from harness.recipe import Recipe


@dataclass(frozen=True)
class Named:
    """A plugin with its options, under the label that tables and rows show."""

    label: str
    plugin: Any

    def resolved(self) -> dict[str, Any]:
        """Return label, name, version and options (JSON)."""
        return {"label": self.label, **self.plugin.identity}

    def located(self, data: Path) -> Named:
        """Return a data set or an architecture as this machine's files define it; `data` is the data root."""
        try:
            return replace(self, plugin=self.plugin.located(data))
        except HarnessError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{self.plugin.full_name}: located raised {told(error)}") from error


@dataclass(frozen=True)
class CellSpec:
    """One dataset × architecture × method × seed, everything resolved: what yields one ensemble."""

    dataset: Named
    architecture: Named
    method: Named
    seed: int
    members: int
    recipe: Recipe
    objective: Objective


@dataclass(frozen=True)
class Pair:
    """A dataset × architecture with the recipe and the methods' options that hold there."""

    dataset: Named
    architecture: Named
    recipe: Recipe
    methods: tuple[Named, ...]


@dataclass(frozen=True)
class Benchmark:
    """A checked benchmark: what it compares, and the pairs of data set and architecture that it compares it on."""

    name: str
    description: str
    path: Path
    seeds: tuple[int, ...]
    members: int
    datasets: tuple[Named, ...]
    architectures: tuple[Named, ...]
    metrics: tuple[Named, ...]
    objective: Objective
    pairs: tuple[Pair, ...]

    def cells(self) -> Iterator[CellSpec]:
        """Yield every cell: for dataset, for architecture, for method, for seed. Plugins and recipes are shared objects."""
        for pair in self.pairs:
            for method in pair.methods:
                for seed in self.seeds:
                    yield CellSpec(pair.dataset, pair.architecture, method, seed, self.members, pair.recipe, self.objective)

    @property
    def leaves_precision_open(self) -> bool:
        """Whether a recipe says `precision: auto`."""
        return any(pair.recipe.precision == "auto" for pair in self.pairs)

    def in_precision(self, precision: Literal["fp32", "bf16"]) -> Benchmark:
        """Return the benchmark with a precision in place of `auto`: then it says what is trained, wherever that is done."""
        if not self.leaves_precision_open:
            return self
        fixed = {id(pair.recipe): pair.recipe.model_copy(update={"precision": precision}) for pair in self.pairs}
        pairs = (replace(p, recipe=fixed[id(p.recipe)]) if p.recipe.precision == "auto" else p for p in self.pairs)
        return replace(self, pairs=tuple(pairs))

    def located(self, data: Path) -> Benchmark:
        """Return the benchmark with what depends on this machine's files read: which classes are there, which weights.

        Raise `UserError` where one is missing; no key can be computed without it.
        """
        datasets = {id(named.plugin): named.located(data) for named in self.datasets}
        architectures = {id(named.plugin): named.located(data) for named in self.architectures}
        pairs = []
        for pair in self.pairs:
            dataset = datasets[id(pair.dataset.plugin)]
            architecture = architectures[id(pair.architecture.plugin)]
            pairs.append(replace(pair, dataset=dataset, architecture=architecture))
        return replace(
            self,
            datasets=tuple(datasets.values()),
            architectures=tuple(architectures.values()),
            pairs=tuple(pairs),
        )

    def resolved(self) -> dict[str, Any]:
        """Return everything the cells are made of, defaults filled in (JSON); the file's own path is no part of it."""
        pairs = [
            {
                "dataset": pair.dataset.label,
                "architecture": pair.architecture.label,
                "recipe": options_json(pair.recipe),
                "methods": [method.resolved() for method in pair.methods],
            }
            for pair in self.pairs
        ]
        return {
            "name": self.name,
            "description": self.description,
            "seeds": list(self.seeds),
            "members": self.members,
            "datasets": [dataset.resolved() for dataset in self.datasets],
            "architectures": [architecture.resolved() for architecture in self.architectures],
            "metrics": [metric.resolved() for metric in self.metrics],
            "objective": self.objective.identity,
            "pairs": pairs,
        }
