"""The benchmark that a bundle's `benchmark.json` describes, with the plugins of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.benchmark import Benchmark, LabeledPlugin
from harness.benchmark.format import MAX_CELLS
from harness.benchmark.spec import Setup
from harness.errors import UserError
from harness.plan.planner import MAX_MEMBERS
from harness.registry.catalogue import Catalogue
from harness.registry.recorded_identity import from_recorded_identity


def benchmark_of(facts: Mapping[str, Any], path: Path, catalogue: Catalogue) -> Benchmark:
    """Return the benchmark of `benchmark.json`, whose path is given.

    Options that plugins have gained since the file was written have their defaults. Raise `UserError` if the file describes no
    benchmark, and `PluginError` for a plugin that is not installed or has another version.
    """
    try:
        _check_size(facts)
        datasets = labeled_plugins(facts["datasets"], "dataset", catalogue)
        architectures = labeled_plugins(facts["architectures"], "architecture", catalogue)
        return Benchmark(
            name=str(facts["name"]),
            description=str(facts["description"]),
            path=path,
            seeds=tuple(int(seed) for seed in facts["seeds"]),
            members=int(facts["members"]),
            datasets=datasets,
            architectures=architectures,
            metrics=labeled_plugins(facts["metrics"], "metric", catalogue),
            objective=from_recorded_identity(catalogue, "objective", facts["objective"]),
            setups=tuple(_setup(entry, datasets, architectures, catalogue) for entry in facts["pairs"]),
            catalogue=catalogue,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: describes no benchmark ({type(error).__name__}: {error}); was it changed?") from None


def _check_size(facts: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a benchmark that is larger than a benchmark file may be, so that planning it ends."""
    cells = len(facts["seeds"]) * sum(len(entry["methods"]) for entry in facts["pairs"])
    if cells > MAX_CELLS or not 0 < int(facts["members"]) <= MAX_MEMBERS:
        raise ValueError(f"{cells} cells of {facts['members']} members; at most {MAX_CELLS} of {MAX_MEMBERS}")


def labeled_plugins(entries: Sequence[Mapping[str, Any]], kind: str, catalogue: Catalogue) -> tuple[LabeledPlugin, ...]:
    """Return the plugins of entries, which are identities with a label. Raise as `from_recorded_identity` does."""
    found = []
    for entry in entries:
        identity = {name: value for name, value in entry.items() if name != "label"}
        found.append(LabeledPlugin(str(entry["label"]), from_recorded_identity(catalogue, kind, identity)))
    return tuple(found)


def _setup(
    entry: Mapping[str, Any],
    datasets: Sequence[LabeledPlugin],
    architectures: Sequence[LabeledPlugin],
    catalogue: Catalogue,
) -> Setup:
    recipe: Recipe = options_from_json(Recipe, entry["recipe"])
    methods = labeled_plugins(entry["methods"], "ensemble_builder", catalogue)
    return Setup(_labeled(datasets, entry["dataset"]), _labeled(architectures, entry["architecture"]), recipe, methods)


def _labeled(plugins: Sequence[LabeledPlugin], label: str) -> LabeledPlugin:
    for plugin in plugins:
        if plugin.label == label:
            return plugin
    raise ValueError(f"there is no '{label}'")
