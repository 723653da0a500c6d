"""Recipes and methods for the dataset × architecture pairs that stand under the same settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.benchmark.checking import Fault, checked, one_line
from harness.benchmark.values import Named
from harness.blame import told
from harness.errors import UserError
from harness.interfaces import EnsembleBuilder, Plugin
from harness.normalization import normalization_of
from harness.recipe import Recipe
from harness.source import Place


@dataclass(frozen=True)
class Entry:
    """An entry of a list: a registered name, with options as written. `cls` is missing where nobody knows the name."""

    kind: str
    name: str
    cls: type[Plugin] | None
    place: Place
    inside: Place  # of the options
    options: dict[str, Any]

    def fields(self) -> Iterable[str]:
        return self.cls.Options.model_fields if self.cls else ()


@dataclass(frozen=True)
class Variant:
    """An entry under its label, with one point of its grid. `whole` is false where a part of it was refused already."""

    entry: Entry
    label: str
    options: dict[str, Any]
    places: dict[str, Place]
    whole: bool = True


@dataclass(frozen=True)
class Block:
    """A settings block: the indices of the datasets and architectures it is for, and what it lays over."""

    place: Place
    datasets: frozenset[int]
    architectures: frozenset[int]
    methods: frozenset[int] | None  # those that run there; missing: as before
    recipe: dict[str, Any]
    method_options: dict[str, Any]


class Reader(Protocol):
    """What resolving asks of whoever reads the file: its values, plugins made of entries, and a place for complaints."""

    given: dict[str, Any]
    concerns: dict[tuple[Place, str, str], list[tuple[int, int]]]  # place, subject, text → pairs

    def plugin(
        self, variant: Variant, filled: Mapping[str, tuple[Any, Place]] | None = None
    ) -> tuple[Plugin | None, tuple[str, ...]]: ...

    def report_fault(self, fault: Fault, place: Place, title: str) -> None: ...


class Resolving:
    """Recipes and methods for groups of pairs under the same settings."""

    def __init__(
        self,
        reader: Reader,
        blocks: list[Block],
        datasets: Sequence[Named],
        methods: list[Variant],
        members: int | None,
    ) -> None:
        self.reader, self.blocks, self.methods, self.members = reader, blocks, methods, members
        self.datasets = datasets  # all that the file lists, or none where one of them is wrong
        top = reader.given.get("recipe", {})
        self.top: _Layer = (top if isinstance(top, dict) else {}, ("recipe",))
        self.builders: dict[tuple, tuple[Named | None, tuple[str, ...]]] = {}
        self.refusals: dict[tuple[int, Recipe], tuple[str, ...]] = {}

    def check_layers(self) -> None:
        """Report wrong values of every recipe as written, those too that later blocks overrule everywhere."""
        for layers in ([self.top], *([self.top, self._layer(block)] for block in self.blocks)):
            self._recipe(layers)

    def resolve(self, group: tuple[int, ...], pairs: list[tuple[int, int]]) -> tuple[Recipe, tuple[Named, ...]]:
        """Return the recipe and the methods of pairs under the same settings; note what is wrong with them there."""
        blocks = [self.blocks[number] for number in group]
        layers = [self.top, *(self._layer(block) for block in blocks if block.recipe)]
        recipe, wrong = self._recipe(layers)
        for text in wrong:
            self._concern(layers[-1][1], "recipe", text, pairs)
        if recipe and self.datasets:
            self._check_data(recipe, layers, pairs)
        filled = {
            key: (value, (*block.place, "method_options", key))
            for block in blocks
            for key, value in block.method_options.items()
        }
        everywhere: frozenset[int] = frozenset(range(len(self.methods)))
        running = next((block.methods for block in reversed(blocks) if block.methods is not None), everywhere)
        methods = [self._method(number, filled, recipe, pairs) for number in sorted(running)]
        return recipe or Recipe.model_construct(), tuple(method for method in methods if method)

    def _check_data(self, recipe: Recipe, layers: list[_Layer], pairs: list[tuple[int, int]]) -> None:
        """Note what of a recipe does not fit the images of the data sets that it is for."""
        for index in sorted({i for i, _ in pairs}):
            mine = [pair for pair in pairs if pair[0] == index]
            dataset = self.datasets[index].plugin
            for text in refusals(normalization_of, recipe, dataset):
                self._concern(_origin(layers, ("normalisation",)), "recipe", text, mine)
            for text in refusals(recipe.augmentation.check_images, dataset.shape):
                self._concern(_origin(layers, ("augmentation", "crop_padding")), "recipe", text, mine)

    def _method(
        self, number: int, filled: Mapping[str, tuple[Any, Place]], recipe: Recipe | None, pairs: list[tuple[int, int]]
    ) -> Named | None:
        variant = self.methods[number]
        mine = {key: filled[key] for key in filled if key in variant.entry.fields() and key not in variant.options}
        key = (number, *(place for _, place in mine.values()))
        if key not in self.builders:
            plugin, wrong = self.reader.plugin(variant, mine)
            self.builders[key] = None if plugin is None else Named(variant.label, plugin), wrong
        method, wrong = self.builders[key]
        if method and recipe and self.members is not None:
            wrong = self._refused(method.plugin, recipe, self.members)
        for text in wrong:
            self._concern(variant.entry.place, variant.label, text, pairs)
        return method

    def _refused(self, builder: EnsembleBuilder, recipe: Recipe, members: int) -> tuple[str, ...]:
        """Return what a builder says against a recipe and M, asked once."""
        if (id(builder), recipe) not in self.refusals:
            self.refusals[id(builder), recipe] = refusals(builder.check, recipe, members)
        return self.refusals[id(builder), recipe]

    def _concern(self, place: Place, subject: str, text: str, pairs: list[tuple[int, int]]) -> None:
        self.reader.concerns.setdefault((place, subject, text), []).extend(pairs)

    def _layer(self, block: Block) -> _Layer:
        return block.recipe, (*block.place, "recipe")

    def _recipe(self, layers: list[_Layer]) -> tuple[Recipe | None, tuple[str, ...]]:
        """Return the recipe of layers (later ones win), and what is wrong with it as a whole; wrong values are reported."""
        merged: dict[str, Any] = {}
        origins: dict[Place, Place] = {}
        for values, place in layers:
            _lay(merged, origins, values, place)
        recipe, faults = checked(Recipe, merged)
        for fault in faults:
            if fault.place:
                length = next(n for n in range(len(fault.place), 0, -1) if fault.place[:n] in origins)
                place = (*origins[fault.place[:length]], *fault.place[length:])
                self.reader.report_fault(fault, place, "recipe")
        return recipe, tuple(fault.text for fault in faults if not fault.place)


_Layer = tuple[dict[str, Any], Place]


def _lay(merged: dict[str, Any], origins: dict[Place, Place], values: dict[str, Any], place: Place, at: Place = ()) -> None:
    """Lay values over merged ones, mapping into mapping, noting where each comes from."""
    for key, value in values.items():
        origins[(*at, key)] = (*place, key)
        if isinstance(value, dict):
            if not isinstance(merged.get(key), dict):
                merged[key] = {}
            _lay(merged[key], origins, value, (*place, key), (*at, key))
        else:
            merged[key] = value


def _origin(layers: list[_Layer], place: Place) -> Place:
    """Return where a recipe's value was given last, or else the part or the recipe that it is a default of."""
    for length in range(len(place), 0, -1):
        for values, start in reversed(layers):
            if _is_given(values, place[:length]):
                return (*start, *place[:length])
    return layers[-1][1]


def _is_given(values: Any, place: Place) -> bool:
    for step in place:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True


def refusals(check: Callable[..., Any], *arguments: Any) -> tuple[str, ...]:
    """Return what a check says, if it refuses."""
    try:
        check(*arguments)
    except (ValueError, UserError) as error:
        return (one_line(error),)
    except Exception as error:  # a check is a plugin's code
        return (f"its check fails: {told(error)}",)
    return ()
