"""The recipe and the methods of each setup, with settings blocks applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from harness.api.builder import EnsembleBuilder
from harness.api.interfaces import Dataset
from harness.api.normalization import normalization_of
from harness.api.recipe import Recipe
from harness.benchmark.entries import Variant
from harness.benchmark.plugin_builder import BuiltPlugin, PluginBuilder, SettingsOption
from harness.benchmark.problems import KeyPath
from harness.benchmark.reporter import ProblemReporter, SetupIndex
from harness.benchmark.settings import Indices, ResolvedBlock
from harness.benchmark.spec import LabeledPlugin
from harness.benchmark.validation import validate_options
from harness.errors import DataError, UserError
from harness.text import describe_error, single_line


class ResolvedSettings(NamedTuple):
    """The recipe and methods of setups with the same blocks. An invalid recipe is None; invalid methods are omitted."""

    recipe: Recipe | None
    methods: tuple[LabeledPlugin, ...]


class RecipeLayer(NamedTuple):
    """Values of a recipe as written, and their path in the file."""

    values: dict[str, Any]
    path: KeyPath


class SettingsResolver:
    """Applies settings blocks to the file's recipe and methods, and reports problems of the result."""

    def __init__(
        self,
        reporter: ProblemReporter,
        plugins: PluginBuilder,
        datasets: Sequence[LabeledPlugin],
        methods: list[Variant],
        members: int | None,
        recipe: RecipeLayer,
        recipe_type: type[Recipe] = Recipe,
    ) -> None:
        self._reporter = reporter
        self._plugins = plugins
        self._datasets = datasets  # all datasets of the file, or none if one is invalid
        self._methods = methods
        self._members = members
        self._recipe = recipe
        self._recipe_type = recipe_type
        self._built: dict[tuple[Any, ...], BuiltPlugin] = {}
        self._check_errors: dict[tuple[int, Recipe], tuple[str, ...]] = {}

    def check_recipes(self, blocks: Sequence[ResolvedBlock]) -> None:
        """Report invalid values of every recipe in the file, also of values that later blocks replace."""
        self._resolve_recipe([self._recipe])
        for block in blocks:
            self._resolve_recipe([self._recipe, _layer(block)])

    def resolve(self, blocks: Sequence[ResolvedBlock], setups: Sequence[SetupIndex]) -> ResolvedSettings:
        """Return the recipe and the methods of setups to which the same blocks apply."""
        layers = [self._recipe]
        layers += [_layer(block) for block in blocks if block.recipe]
        recipe, errors = self._resolve_recipe(layers)
        for error in errors:
            self._reporter.report_for_setups(layers[-1].path, "recipe", error, setups)
        if recipe is not None and self._datasets:
            self._check_data(recipe, layers, setups)
        settings = {}
        for block in blocks:
            for key, value in block.method_options.items():
                settings[key] = SettingsOption(value, (*block.path, "method_options", key))
        methods = []
        for number in sorted(self._selected_methods(blocks)):
            method = self._resolve_method(number, settings, recipe, setups)
            if method is not None:
                methods.append(method)
        return ResolvedSettings(recipe, tuple(methods))

    def _check_data(self, recipe: Recipe, layers: Sequence[RecipeLayer], setups: Sequence[SetupIndex]) -> None:
        """Report parts of a recipe that do not fit the images of its datasets, or their number."""
        for index in sorted({dataset for dataset, _ in setups}):
            affected = [setup for setup in setups if setup[0] == index]
            dataset = self._datasets[index].plugin
            for error in check_errors(normalization_of, recipe, dataset):
                self._reporter.report_for_setups(_origin(layers, ("normalization",)), "recipe", error, affected)
            for error in batch_errors(recipe, dataset):
                self._reporter.report_for_setups(_origin(layers, ("batch_size",)), "recipe", error, affected)
            for error in check_errors(recipe.augmentation.check_images, dataset.shape):
                path = _origin(layers, ("augmentation", "crop_padding"))
                self._reporter.report_for_setups(path, "recipe", error, affected)

    def _selected_methods(self, blocks: Sequence[ResolvedBlock]) -> Indices:
        """Return the indices of the methods that run: those of the last block with `methods`, or all."""
        for block in reversed(blocks):
            if block.methods is not None:
                return block.methods
        return frozenset(range(len(self._methods)))

    def _resolve_method(
        self, number: int, settings: dict[str, SettingsOption], recipe: Recipe | None, setups: Sequence[SetupIndex]
    ) -> LabeledPlugin | None:
        variant = self._methods[number]
        known = variant.entry.option_names()
        used = {}
        for key, option in settings.items():
            if key in known and key not in variant.options:
                used[key] = option
        cache_key = (number, *(option.path for option in used.values()))
        if cache_key not in self._built:
            self._built[cache_key] = self._plugins.build(variant, used)
        method, errors = self._built[cache_key]
        if method is not None and recipe is not None and self._members is not None:
            errors = self._check_method(method.plugin, recipe, self._members)
        for error in errors:
            self._reporter.report_for_setups(variant.entry.path, variant.label, error, setups)
        if method is not None and recipe is not None and self._members is not None and not errors:
            self._check_method_on_datasets(variant, method.plugin, recipe, setups)
        return method

    def _check_method_on_datasets(
        self, variant: Variant, builder: EnsembleBuilder, recipe: Recipe, setups: Sequence[SetupIndex]
    ) -> None:
        """Report why a method cannot run on the data sets of some setups."""
        for index in sorted({dataset for dataset, _ in setups}) if self._datasets else ():
            affected = [setup for setup in setups if setup[0] == index]
            for error in check_errors(_check_dataset, builder, self._datasets[index].plugin, recipe):
                self._reporter.report_for_setups(variant.entry.path, variant.label, error, affected)

    def _check_method(self, builder: EnsembleBuilder, recipe: Recipe, members: int) -> tuple[str, ...]:
        """Return why a method cannot run with a recipe and M members. Its `check` is called once per recipe."""
        cache_key = (id(builder), recipe)
        if cache_key not in self._check_errors:
            self._check_errors[cache_key] = check_errors(builder.check, recipe, members)
        return self._check_errors[cache_key]

    def _resolve_recipe(self, layers: Sequence[RecipeLayer]) -> tuple[Recipe | None, tuple[str, ...]]:
        """Return the recipe of layers, of which later ones win, and its errors as a whole. Report invalid values."""
        merged = _MergedRecipe()
        for layer in layers:
            merged.add(layer.values, layer.path)
        recipe, issues = validate_options(self._recipe_type, merged.values)
        errors = []
        for issue in issues:
            if issue.path:
                self._reporter.report_issue(issue, merged.origin(issue.path), "recipe")
            else:
                errors.append(issue.text)
        return recipe, tuple(errors)


class _MergedRecipe:
    """Recipe values merged from several places of the file, and the path of each in the file."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._origins: dict[KeyPath, KeyPath] = {}

    def add(self, values: dict[str, Any], path: KeyPath) -> None:
        """Replace present values by those at a path of the file, key by key, also in inner mappings."""
        self._merge(self.values, values, path, ())

    def origin(self, path: KeyPath) -> KeyPath:
        """Return the path in the file of the value at a path of the recipe."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return (*self._origins[path[:length]], *path[length:])
        raise KeyError(path)

    def _merge(self, target: dict[str, Any], values: dict[str, Any], path: KeyPath, target_path: KeyPath) -> None:
        for key, value in values.items():
            self._origins[(*target_path, key)] = (*path, key)
            if not isinstance(value, dict):
                target[key] = value
                continue
            if not isinstance(target.get(key), dict):
                target[key] = {}
            self._merge(target[key], value, (*path, key), (*target_path, key))


def check_errors(check: Callable[..., Any], *arguments: Any) -> tuple[str, ...]:
    """Call a check and return its error message, if it raises one."""
    try:
        check(*arguments)
    except (ValueError, UserError) as error:
        return (single_line(str(error)),)
    except Exception as error:  # a plugin may raise anything
        return (f"its check fails: {describe_error(error)}",)
    return ()


def _check_dataset(builder: EnsembleBuilder, dataset: Dataset, recipe: Recipe) -> None:
    """Raise `ValueError` if a method does not fit a data set; not for what is only known once that is located."""
    try:
        builder.check_dataset(dataset, recipe)
    except DataError:
        return


def batch_errors(recipe: Recipe, dataset: Dataset) -> tuple[str, ...]:
    """Return why a recipe's batches do not fit a data set; nothing if its size is only known once it is located."""
    try:
        train_size = int(dataset.train_size)
    except Exception:  # a plugin may raise anything; the plan of a run asks the located data set
        return ()
    return check_errors(recipe.check_train_size, train_size)


def _origin(layers: Sequence[RecipeLayer], path: KeyPath) -> KeyPath:
    """Return the path where a value of the recipe was given last; for a default value, that of the nearest given part."""
    for length in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _has(layer.values, path[:length]):
                return (*layer.path, *path[:length])
    return layers[-1].path


def _has(values: Any, path: KeyPath) -> bool:
    for step in path:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True


def _layer(block: ResolvedBlock) -> RecipeLayer:
    return RecipeLayer(block.recipe, (*block.path, "recipe"))
