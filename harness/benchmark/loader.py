"""A benchmark file → a validated benchmark. Names become plugins, values become options, and all problems are reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.evaluation_set import evaluation_sets
from harness.api.interfaces import Metric
from harness.api.recipe import Recipe
from harness.benchmark.dataset_checks import dataset_errors, evaluation_set_errors
from harness.benchmark.entries import EntryReader, Variant
from harness.benchmark.format import MAX_CELLS, OPTIONAL, SECTIONS, BenchmarkFile
from harness.benchmark.mapping_source import mapping_source
from harness.benchmark.overrides import apply_overrides
from harness.benchmark.plugin_builder import PluginBuilder
from harness.benchmark.reporter import ProblemReporter, SetupIndex
from harness.benchmark.resolver import RecipeLayer, SettingsResolver, check_errors
from harness.benchmark.settings import ResolvedBlock, SettingsReader
from harness.benchmark.spec import Benchmark, LabeledPlugin, Setup
from harness.benchmark.validation import ValidationIssue, validate_options
from harness.benchmark.yaml_source import YamlSource, read_source
from harness.errors import did_you_mean

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue

_Groups = dict[tuple[int, ...], list[SetupIndex]]
"""Indices of the settings blocks that apply → the setups to which they apply."""


def load_benchmark(benchmark: Path | str | Mapping[str, Any], catalogue: Catalogue, overrides: Sequence[str] = ()) -> Benchmark:
    """Return the benchmark of a file, or of a mapping with the same keys, changed by `KEY=VALUE` overrides.

    Raise `BenchmarkError` with all problems, in the order of the file.
    """
    given = mapping_source(benchmark) if isinstance(benchmark, Mapping) else read_source(Path(benchmark))
    source = apply_overrides(given, overrides)
    return BenchmarkLoader(source, catalogue).load()


@dataclass(frozen=True)
class _Header:
    """The keys with plain values. Invalid values are replaced: seeds by none, `members` by None."""

    name: str
    description: str
    seeds: tuple[int, ...]
    members: int | None
    equivalence: Mapping[str, float]


class BenchmarkLoader:
    """Builds a benchmark from the values of a file."""

    def __init__(self, source: YamlSource, catalogue: Catalogue, recipe_type: type[Recipe] = Recipe) -> None:
        self._path = source.path
        self._catalogue = catalogue
        self._recipe_type = recipe_type
        self._values = _given_values(source.data)
        self._reporter = ProblemReporter(source)
        self._entries = EntryReader(self._values, catalogue, self._reporter)
        self._plugins = PluginBuilder(catalogue, self._reporter)

    def load(self) -> Benchmark:
        """Return the benchmark. Raise `BenchmarkError` with all problems."""
        self._reporter.report_non_finite(self._values, ())
        header = self._read_header()
        variants = {kind: self._entries.read_list(kind) for kind in SECTIONS}
        datasets = self._plugins.build_all(variants["dataset"])
        architectures = self._plugins.build_all(variants["architecture"])
        metrics = self._build_metrics(variants["metric"], header.members, datasets)
        self._check_margins(_labels(variants["metric"]))
        observers = self._plugins.build_all(variants["observer"])
        objective = self._build_objective()
        setups = self._build_setups(variants, datasets, architectures, header)
        if self._reporter or header.members is None:
            raise self._reporter.error(_labels(variants["dataset"]), _labels(variants["architecture"]))
        return Benchmark(
            name=header.name or _name_from_path(self._path),
            description=header.description,
            path=self._path,
            seeds=header.seeds,
            members=header.members,
            datasets=datasets,
            architectures=architectures,
            metrics=metrics,
            objective=objective,
            setups=setups,
            catalogue=self._catalogue,
            equivalence=header.equivalence,
            observers=observers,
        )

    def _read_header(self) -> _Header:
        """Validate the keys at the top of the file and return the plain ones."""
        _, issues = validate_options(BenchmarkFile, self._values)
        for issue in issues:
            self._reporter.report_issue(_explain_fixed_key(issue), issue.path, "")
        wrong = {issue.path[0] for issue in issues if issue.path}
        valid = {key: value for key, value in self._values.items() if key not in wrong}
        members = valid.get("members", BenchmarkFile.model_fields["members"].default)
        if "members" in wrong:
            members = None
        margins = {metric: float(margin) for metric, margin in valid.get("equivalence", {}).items()}
        return _Header(valid.get("name", ""), valid.get("description", ""), tuple(valid.get("seeds", ())), members, margins)

    def _check_margins(self, metrics: Sequence[str]) -> None:
        """Report each margin of equivalence for a metric that the benchmark does not measure, also beside invalid ones."""
        margins = self._values.get("equivalence")
        for name in margins if isinstance(margins, dict) else ():
            if name not in metrics:
                problem = f"'{name}' is none of this benchmark's metrics{did_you_mean(name, metrics)}"
                self._reporter.report(("equivalence", name), problem, at_key=True)

    def _build_metrics(
        self, variants: Iterable[Variant], members: int | None, datasets: Sequence[LabeledPlugin]
    ) -> tuple[LabeledPlugin, ...]:
        """Return the metrics. Report each that cannot measure ensembles of `members` members, or on one of the data sets."""
        metrics: tuple[LabeledPlugin, ...] = ()
        for variant in variants:
            built = self._plugins.build_all([variant])
            metrics += built
            if built and members is not None:
                for error in check_errors(built[0].plugin.check, members):
                    self._reporter.report(variant.entry.path, f"{variant.label}: {error}")
            for dataset in datasets if built else ():
                self._check_on_dataset(variant, built[0].plugin, dataset)
        return metrics

    def _check_on_dataset(self, variant: Variant, metric: Metric, dataset: LabeledPlugin) -> None:
        """Report why a metric, or an evaluation set that it names, does not fit a data set."""
        for error in dataset_errors(metric, dataset.plugin):
            self._reporter.report(variant.entry.path, f"{variant.label} on {dataset.label}: {error}")
        for option, evaluation_set in evaluation_sets(metric).items():
            path = variant.option_paths.get(option, variant.entry.path)
            for error in evaluation_set_errors(evaluation_set, dataset.plugin, self._catalogue):
                self._reporter.report(path, f"{variant.label}.{option}: {error}")

    def _build_objective(self) -> Any:
        built = self._plugins.build_all(self._entries.read_objective())
        if not built:
            return None
        objective = built[0].plugin
        if objective.needs_teacher:
            problem = f"{built[0].label} needs a teacher, which only a method gives; one without a teacher"
            self._reporter.report(("objective",), problem)
        return objective

    def _build_setups(
        self,
        variants: Mapping[str, list[Variant]],
        datasets: tuple[LabeledPlugin, ...],
        architectures: tuple[LabeledPlugin, ...],
        header: _Header,
    ) -> tuple[Setup, ...]:
        """Return dataset × architecture with settings applied. Setups with the same blocks share recipe and methods."""
        blocks = SettingsReader(variants, self._catalogue, self._reporter).read(self._values.get("settings", []))
        groups = self._group_setups(variants, blocks, len(header.seeds))
        recipe = self._values.get("recipe", {})
        if not isinstance(recipe, dict):
            recipe = {}
        all_valid = len(datasets) == len(variants["dataset"])
        resolver = SettingsResolver(
            self._reporter,
            self._plugins,
            datasets if all_valid else (),
            variants["ensemble_builder"],
            header.members,
            RecipeLayer(recipe, ("recipe",)),
            self._recipe_type,
        )
        resolver.check_recipes(blocks)
        setups: dict[SetupIndex, Setup] = {}
        for group, indices in groups.items():
            resolved = resolver.resolve([blocks[number] for number in group], indices)
            if self._reporter or resolved.recipe is None:
                continue  # there will be no benchmark; go on to find further problems
            for dataset, architecture in indices:
                setup = Setup(datasets[dataset], architectures[architecture], resolved.recipe, resolved.methods)
                setups[dataset, architecture] = setup
        return tuple(setups[index] for index in sorted(setups))

    def _group_setups(self, variants: Mapping[str, list[Variant]], blocks: Sequence[ResolvedBlock], seeds: int) -> _Groups:
        datasets = range(len(variants["dataset"]))
        architectures = range(len(variants["architecture"]))
        methods = len(variants["ensemble_builder"])
        # Invalid seeds or methods count as one, since the setups alone may exceed the limit and exhaust the memory.
        cells = len(datasets) * len(architectures) * max(methods, 1) * max(seeds, 1)
        if cells > MAX_CELLS:
            self._reporter.report((), f"makes {cells} cells; at most {MAX_CELLS}")
            return {}
        groups: _Groups = {}
        for dataset in datasets:
            candidates = [number for number, block in enumerate(blocks) if dataset in block.datasets]
            for architecture in architectures:
                group = tuple(number for number in candidates if architecture in blocks[number].architectures)
                groups.setdefault(group, []).append((dataset, architecture))
        return groups or {(): []}


def _given_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's values without the keys for anchors (`x-…`) and without empty values of optional keys."""
    values = {}
    for key, value in data.items():
        is_default = value is None and key in OPTIONAL
        if not key.startswith("x-") and not is_default:
            values[key] = value
    return values


def _explain_fixed_key(issue: ValidationIssue) -> ValidationIssue:
    """Return the issue; for a key that settings cannot change, with a message that says where to give it."""
    if issue.at_key and issue.path[0] == "settings" and issue.path[-1] in ("seeds", "members"):
        text = f"'{issue.path[-1]}' cannot differ between settings; give it once, at the top"
        return ValidationIssue(issue.path, text, at_key=True)
    return issue


def _labels(variants: Iterable[Variant]) -> list[str]:
    return [variant.label for variant in variants]


def _name_from_path(path: Path) -> str:
    """Return a valid benchmark name derived from a file's name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower())
    return name.strip("._-")[:100] or "benchmark"
