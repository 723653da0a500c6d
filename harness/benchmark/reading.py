"""A benchmark file → a checked benchmark: names become plugins, options values, every problem is reported at once."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.benchmark.checking import Fault, checked, one_line, unknown_key
from harness.benchmark.format import (
    DEFAULT_METRICS,
    DEFAULT_OBJECTIVE,
    MAX_CELLS,
    MAX_VARIANTS,
    OPTIONAL,
    RESERVED,
    SECTIONS,
    WORDS,
    BenchmarkFile,
    is_family,
)
from harness.benchmark.resolving import Block, Entry, Resolving, Variant, refusals
from harness.benchmark.values import Benchmark, Named, Pair
from harness.blame import printable, told
from harness.errors import UnknownName, UserError, did_you_mean
from harness.interfaces import Metric, Plugin
from harness.source import Place, Source, dotted, read_source, shown

if TYPE_CHECKING:
    from harness.catalogue import Catalogue


def load_benchmark(path: Path | str, catalogue: Catalogue, overrides: Sequence[str] = ()) -> Benchmark:
    """Read and check a benchmark file, with the command line's `KEY=VALUE` changes.

    Raises `BenchmarkError` with all problems, in the file's order.
    """
    return Reading(read_source(Path(path), overrides), catalogue).benchmark()


class Reading:
    """One file's way from values to a benchmark, collecting what is wrong."""

    def __init__(self, source: Source, catalogue: Catalogue) -> None:
        self.source, self.catalogue = source, catalogue
        self.problems = list(source.problems)
        self.unread = {problem.mark for problem in source.problems}  # no second complaint about what could not be read
        self.concerns: dict[tuple[Place, str, str], list[tuple[int, int]]] = {}  # place, subject, text → pairs
        self.given = {
            key: value
            for key, value in source.data.items()
            if not key.startswith("x-") and not (value is None and key in OPTIONAL)
        }

    def benchmark(self) -> Benchmark:
        self._refuse_infinities(self.given, ())
        values = self._values()
        listed = {kind: self._variants(kind) for kind in SECTIONS}
        datasets, architectures = (self._plugins(listed[kind]) for kind in ("dataset", "architecture"))
        metrics = self._metrics(listed["metric"], values.get("members"))
        objective = self._objective()
        pairs = self._pairs(listed, datasets, architectures, values)
        self._add_concerns(listed)
        if self.problems:
            raise self.source.error(self.problems)
        name = values["name"] or _name_from(self.source.path)
        common = (name, values["description"], self.source.path, tuple(values["seeds"]), values["members"])
        return Benchmark(*common, datasets, architectures, metrics, objective, pairs)

    # Problems

    def _report(self, place: Place, text: str, *, at_key: bool = False) -> None:
        problem = self.source.problem(place, printable(text), at_key=at_key)
        if problem.mark not in self.unread:
            self.problems.append(problem)

    def report_fault(self, fault: Fault, place: Place, title: str) -> None:
        """Report what is wrong with a value at its place; `title` says whose value it is."""
        where = ".".join(part for part in (title, dotted(fault.place)) if part)
        self._report(place, fault.text if fault.at_key or not where else f"{where}: {fault.text}", at_key=fault.at_key)

    def _refuse_infinities(self, value: Any, place: Place) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            self._report(place, f"{shown(value)} is not a finite number; every number in a benchmark file is finite")
        elif isinstance(value, (dict, list)):
            for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
                self._refuse_infinities(inner, (*place, step))

    def _add_concerns(self, listed: Mapping[str, list[Variant]]) -> None:
        """Report what is wrong on some of the pairs, once for all of them."""
        for (place, subject, text), pairs in self.concerns.items():
            named = [f"{listed['dataset'][i].label} × {listed['architecture'][j].label}" for i, j in pairs[:2]]
            on = f" on {', '.join(named)}" if named else ""
            more = f" and {len(pairs) - 2} more" if len(pairs) > 2 else ""
            self._report(place, f"{subject}{on}{more}: {text}")

    # Keys at the top

    def _values(self) -> dict[str, Any]:
        """Return the file's top keys that are right, defaults filled in."""
        faults = checked(BenchmarkFile, self.given)[1]
        for fault in faults:
            if fault.at_key and fault.place[0] == "settings" and fault.place[-1] in ("seeds", "members"):
                fault = fault._replace(text=f"'{fault.place[-1]}' cannot differ between settings; give it once, at the top")
            self.report_fault(fault, fault.place, "")
        wrong = {fault.place[0] for fault in faults if fault.place}
        fields = BenchmarkFile.model_fields.items()
        right = {name: self.given.get(name, field.get_default()) for name, field in fields if name not in wrong}
        return {name: value for name, value in right.items() if name in self.given or name in OPTIONAL}

    # Entries

    def _variants(self, kind: str) -> list[Variant]:
        """Return a list's entries, grids expanded, labels checked."""
        section = SECTIONS[kind]
        listed = self.given.get(section, list(DEFAULT_METRICS) if kind == "metric" else [])
        if not isinstance(listed, list):
            return []
        entries = (self._entry(kind, item, (section, index)) for index, item in enumerate(listed))
        variants = [variant for entry in entries if entry for variant in self._expanded(entry)]
        first: dict[str, Variant] = {}
        for variant in variants:
            other = first.setdefault(variant.label, variant)
            if other is not variant and variant.entry.cls:
                word, remedy = (
                    ("metric", "list it once") if kind == "metric" else ("label", "give this one a 'label' of its own")
                )
                taken = f"{word} {shown(variant.label)} is taken by the entry at {self.source.where(other.entry.place)}"
                self._report(variant.entry.place, f"{taken}; {remedy}")
        return variants

    def _entry(self, kind: str, item: Any, place: Place) -> Entry | None:
        if isinstance(item, str):
            return Entry(kind, item, self._class(kind, item, place, at_key=False), place, place, {})
        if not (isinstance(item, dict) and len(item) == 1):
            allowed = "a name, or 'name: {option: value}' with the options indented below the name"
            self._report(place, f"{shown(item)} is not an entry; {allowed}")
            return None
        [(name, options)] = item.items()
        inside = (*place, name)
        if not isinstance(options, dict | None):
            self._report(inside, f"{dotted((name,))}: {shown(options)} is not a mapping; options, such as {{key: value}}")
        cls = self._class(kind, name, inside, at_key=True)
        return Entry(kind, name, cls, place, inside, options if isinstance(options, dict) else {})

    def _class(self, kind: str, name: str, place: Place, *, at_key: bool) -> type[Plugin] | None:
        """Return the plugin class of a name, a family's variant checked; report a name that nobody knows."""
        try:
            if not (name.isprintable() and len(name) <= 100):
                raise UnknownName(
                    f"unknown {WORDS.get(kind, kind)} {shown(name)}{did_you_mean('', self.catalogue.names(kind))}"
                )
            cls = self.catalogue.get(kind, name)
            if is_family(cls.name):
                if name == cls.name:
                    raise UnknownName(f"'{name}' names a family; put a member's name for {name[name.index('<') :]}")
                self.catalogue.check_variant(name)
        except UserError as error:  # unknown, or a family that cannot list its members
            self._report(place, one_line(error), at_key=at_key)
            return None
        return cls

    def _expanded(self, entry: Entry) -> Iterator[Variant]:
        """Yield an entry as labelled variants: one, or one for each point of its grid."""
        options = dict(entry.options)
        reserved = {key: options.pop(key) for key in RESERVED.get(entry.kind, ()) if key in options}
        places = {key: (*entry.inside, key) for key in options}
        label = reserved.get("label", entry.name)
        if "label" in reserved:
            self._check_label(label, (*entry.inside, "label"))
        points = self._grid(entry, reserved["grid"], options) if "grid" in reserved else [()]
        for point in points or [()]:
            full = f"{label}({','.join(f'{at.key}={at.text}' for at in point)})" if point else str(label)
            if point:
                self._check_label(full, entry.place)
            values = options | {at.key: at.value for at in point}
            yield Variant(entry, full, values, places | {at.key: at.place for at in point}, points is not None)

    def _check_label(self, label: Any, place: Place) -> None:
        right = isinstance(label, str) and label.isprintable() and label.strip() == label and 0 < len(label) <= 100
        if not right or "|" in label:
            self._report(place, f"label {shown(label)} cannot stand in a table; 1 to 100 printable characters without '|'")

    def _grid(self, entry: Entry, grid: Any, options: Mapping[str, Any]) -> list[tuple[_Point, ...]] | None:
        """Return the points of an entry's grid, or nothing where it is wrong."""
        place = (*entry.inside, "grid")
        if not isinstance(grid, dict) or not grid:
            self._report(
                place, f"grid: {shown(grid)} is not a grid; options with lists of values, such as {{beta: [0.2, 0.5]}}"
            )
            return None
        before = len(self.problems)
        for key, values in grid.items():
            if entry.cls and key not in entry.fields():
                self._report((*place, key), unknown_key(key, entry.fields()), at_key=True)
            elif key in options:
                self._report((*place, key), f"{shown(key)} is given beside the grid too; give it once", at_key=True)
            elif not isinstance(values, list) or not values:
                self._report((*place, key), f"{dotted(('grid', key))}: {shown(values)} is not a list of values; such as [1, 2]")
            elif len({repr(value) for value in values}) < len(values):
                self._report((*place, key), f"{dotted(('grid', key))}: {shown(values)} lists a value twice; list each once")
        if len(self.problems) > before:
            return None
        count = math.prod(len(values) for values in grid.values())
        if count > MAX_VARIANTS:
            self._report(place, f"grid: makes {count} methods; at most {MAX_VARIANTS}")
            return None
        axes = (
            [_Point(key, value, (*place, key, index)) for index, value in enumerate(values)] for key, values in grid.items()
        )
        return list(itertools.product(*axes))

    # Plugins

    def plugin(
        self, variant: Variant, filled: Mapping[str, tuple[Any, Place]] | None = None
    ) -> tuple[Plugin | None, tuple[str, ...]]:
        """Return a variant's plugin, or nothing and what is wrong with the entry as a whole; `filled` are the options that
        settings give it. What is wrong with single values is reported."""
        entry, filled = variant.entry, filled or {}
        if entry.cls is None:
            return None, ()
        values = {key: value for key, (value, _) in filled.items()} | variant.options
        places = {key: place for key, (_, place) in filled.items()} | variant.places
        options, faults = checked(entry.cls.Options, values, RESERVED.get(entry.kind, ()))
        for fault in faults:
            if fault.place:
                title = "method_options" if fault.place[0] in filled else entry.name
                self.report_fault(fault, (*places[str(fault.place[0])], *fault.place[1:]), title)
        if options is None or not variant.whole:
            return None, tuple(fault.text for fault in faults if not fault.place and variant.whole)
        try:
            plugin = self.catalogue.create(entry.kind, entry.name, options)
            _ = plugin.identity  # an option that cannot be in a key is refused here, before anything is planned
            return plugin, ()
        except (ValueError, UserError) as error:
            return None, (one_line(error),)
        except Exception as error:  # a plugin's code
            return None, (f"it cannot be made: {told(error)}",)

    def _plugins(self, variants: Iterable[Variant]) -> tuple[Named, ...]:
        """Return the plugins of a list's variants, those that are right."""
        named = []
        for variant in variants:
            plugin, wrong = self.plugin(variant)
            for text in wrong:
                self._report(variant.entry.place, f"{variant.label}: {text}")
            if plugin is not None:
                named.append(Named(variant.label, plugin))
        return tuple(named)

    def _metrics(self, variants: Iterable[Variant], members: int | None) -> tuple[Named, ...]:
        """Return the metrics, each asked whether it can measure ensembles of M members."""
        metrics = []
        for variant in variants:
            for named in self._plugins([variant]):
                metrics.append(named)
                metric: Metric = named.plugin
                for text in () if members is None else refusals(metric.check, members):
                    self._report(variant.entry.place, f"{named.label}: {text}")
        return tuple(metrics)

    def _objective(self) -> Any:
        entry = self._entry("objective", self.given.get("objective", DEFAULT_OBJECTIVE), ("objective",))
        named = self._plugins(self._expanded(entry)) if entry else ()
        if named and named[0].plugin.wants_teacher:
            self._report(("objective",), f"{named[0].label} needs a teacher, which only a method gives; one without a teacher")
        return named[0].plugin if named else None

    # Settings and pairs

    def _blocks(self, listed: Mapping[str, list[Variant]]) -> list[Block]:
        """Return the settings blocks; report names that the file does not list and options that no method has."""
        methods = [variant.entry for variant in listed["ensemble_builder"]]
        known = {key for entry in methods for key in entry.fields()}
        names = self.catalogue.names("ensemble_builder")
        elsewhere = {key for name in names for key in self.catalogue.get("ensemble_builder", name).Options.model_fields}
        meanings = {kind: _meaning(listed[kind]) for kind in ("dataset", "architecture")}
        blocks = []
        settings = self.given.get("settings", [])
        for index, block in enumerate(settings if isinstance(settings, list) else []):
            if not isinstance(block, dict):
                continue
            place: Place = ("settings", index)
            recipe, options = (
                value if isinstance(value := block.get(key), dict) else {} for key in ("recipe", "method_options")
            )
            if all(block.get(key) in (None, {}) for key in ("recipe", "method_options", "methods")):
                self._report(place, "this block of settings sets nothing; give it a recipe, method_options or methods")
            for key in options:
                if key not in known | elsewhere and methods and all(entry.cls for entry in methods):
                    text = f"no method of this file has an option {shown(key)}{did_you_mean(key, known)}"
                    self._report((*place, "method_options", key), text, at_key=True)
            selected = {kind: self._selected(block.get(kind), meanings[kind], (*place, kind), kind) for kind in meanings}
            running = block.get("methods")
            mine = _meaning(listed["ensemble_builder"])
            chosen = None if running is None else self._selected(running, mine, (*place, "methods"), "method")
            blocks.append(Block(place, selected["dataset"], selected["architecture"], chosen, recipe, options))
        return blocks

    def _selected(self, words: Any, meaning: Mapping[str, frozenset[int]], place: Place, kind: str) -> frozenset[int]:
        """Return the indices of the variants that a filter means.

        A registered name that the file does not list means none (`--set` may have taken it out of the list); a word that
        nobody knows is reported.
        """
        if words is None:
            return frozenset().union(*meaning.values())
        chosen: set[int] = set()
        single = isinstance(words, str)
        for index, word in enumerate([words] if single else words if isinstance(words, list) else []):
            if isinstance(word, str) and word not in meaning and meaning and not self._registered(kind, word):
                text = f"no {kind} of this file is called {shown(word)}{did_you_mean(word, meaning)}"
                self._report(place if single else (*place, index), text)
            elif isinstance(word, str):
                chosen |= meaning.get(word, frozenset())
        return frozenset(chosen)

    def _registered(self, kind: str, name: str) -> bool:
        try:
            return bool(self.catalogue.get("ensemble_builder" if kind == "method" else kind, name))
        except UnknownName:
            return False

    def _pairs(
        self,
        listed: Mapping[str, list[Variant]],
        datasets: tuple[Named, ...],
        architectures: tuple[Named, ...],
        values: Mapping[str, Any],
    ) -> tuple[Pair, ...]:
        """Return dataset × architecture, resolved. Pairs under the same settings share their recipe and methods."""
        blocks = self._blocks(listed)
        groups = self._groups(listed, blocks, len(values.get("seeds", ())))
        known = datasets if len(datasets) == len(listed["dataset"]) else ()
        resolving = Resolving(self, blocks, known, listed["ensemble_builder"], values.get("members"))
        resolving.check_layers()
        resolved = {group: resolving.resolve(group, pairs) for group, pairs in groups.items()}
        if self.problems or self.concerns:
            return ()
        at = {pair: group for group, pairs in groups.items() for pair in pairs}
        indices = itertools.product(range(len(datasets)), range(len(architectures)))
        return tuple(Pair(datasets[i], architectures[j], *resolved[at[i, j]]) for i, j in indices)

    def _groups(
        self, listed: Mapping[str, list[Variant]], blocks: list[Block], seeds: int
    ) -> dict[tuple[int, ...], list[tuple[int, int]]]:
        """Return the pairs (indices of dataset and architecture) by the settings blocks that are for them."""
        counts = [len(listed[kind]) for kind in ("dataset", "architecture", "ensemble_builder")]
        if math.prod(counts) * seeds > MAX_CELLS:
            self._report((), f"makes {math.prod(counts) * seeds} cells; at most {MAX_CELLS}")
            return {}
        groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for i in range(counts[0]):
            mine = [(number, block) for number, block in enumerate(blocks) if i in block.datasets]
            for j in range(counts[1]):
                group = tuple(number for number, block in mine if j in block.architectures)
                groups.setdefault(group, []).append((i, j))
        return groups or {(): []}


class _Point(NamedTuple):
    """One value of one axis of a grid."""

    key: str
    value: Any
    place: Place

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


def _meaning(variants: list[Variant]) -> dict[str, frozenset[int]]:
    """Return what a word of a filter means: the variant of that label, or else all of that name, as indices."""
    named: dict[str, list[int]] = {}
    for index, variant in enumerate(variants):
        named.setdefault(variant.entry.name, []).append(index)
    labelled = {variant.label: frozenset({index}) for index, variant in enumerate(variants)}
    return {name: frozenset(indices) for name, indices in named.items()} | labelled


def _name_from(path: Path) -> str:
    """Return a benchmark's name made of a file's."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("._-")[:100] or "benchmark"
