"""The entries of a benchmark file's lists: registered names with options and a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.api.plugin import Plugin
from harness.benchmark.format import RESERVED, SECTIONS, WORDS, is_family
from harness.benchmark.formatting import format_key, format_value
from harness.benchmark.grids import GridValue, expand_grid
from harness.benchmark.problems import KeyPath
from harness.benchmark.reporter import ProblemReporter
from harness.errors import UnknownName, UserError, did_you_mean
from harness.text import single_line

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue

MAX_NAME_LENGTH = 100


@dataclass(frozen=True)
class Entry:
    """A registered name with its options as written. `plugin_class` is None for an unknown name."""

    kind: str
    name: str
    plugin_class: type[Plugin] | None
    path: KeyPath
    options_path: KeyPath
    options: dict[str, Any]

    def option_names(self) -> Iterable[str]:
        """Return the names of the plugin's options."""
        return self.plugin_class.Options.model_fields if self.plugin_class else ()


@dataclass(frozen=True)
class Variant:
    """An entry with its label and the options of one point of its grid. It is not `complete` if its grid is invalid."""

    entry: Entry
    label: str
    options: dict[str, Any]
    option_paths: dict[str, KeyPath]
    complete: bool = True


class EntryReader:
    """Reads entries. Reports unknown names and invalid labels and grids."""

    def __init__(self, values: Mapping[str, Any], catalogue: Catalogue, reporter: ProblemReporter) -> None:
        self._values = values
        self._catalogue = catalogue
        self._reporter = reporter

    def read_list(self, kind: str) -> list[Variant]:
        """Return the entries of a kind's list as labeled variants."""
        section = SECTIONS[kind]
        items = self._values.get(section, [])
        if kind == "metric" and section not in self._values:
            items = self._catalogue.defaults(kind)
            if not items:
                self._report_no_default(kind, section)
        if not isinstance(items, list):
            return []
        variants = []
        for index, item in enumerate(items):
            variants += self._read_entry(kind, item, (section, index))
        self._report_duplicates(kind, variants)
        return variants

    def read_objective(self) -> list[Variant]:
        """Return the objective as a list of one variant; an empty list if it is invalid."""
        if "objective" in self._values:
            return self._read_entry("objective", self._values["objective"], ("objective",))
        defaults = self._catalogue.defaults("objective")
        if len(defaults) != 1:
            self._report_no_default("objective", "objective")
            return []
        return self._read_entry("objective", defaults[0], ("objective",))

    def _report_no_default(self, kind: str, section: str) -> None:
        """Report a missing section for which the installed plugins mark no default, or several objectives."""
        found = "no plugin marks a default"
        marked = self._catalogue.defaults(kind)
        if marked:
            found = f"plugins mark {len(marked)} defaults: {', '.join(marked)}"
        known = ", ".join(self._catalogue.names(kind)) or "none is registered"
        self._reporter.report((), f"'{section}' is missing, and {found}; give one of: {known}")

    def _read_entry(self, kind: str, item: Any, path: KeyPath) -> list[Variant]:
        if isinstance(item, str):
            plugin_class = self._plugin_class(kind, item, path, at_key=False)
            return self._variants(Entry(kind, item, plugin_class, path, path, {}))
        if not isinstance(item, dict) or len(item) != 1:
            allowed = "a name, or 'name: {option: value}' with the options indented below the name"
            self._reporter.report(path, f"{format_value(item)} is not an entry; {allowed}")
            return []
        [(name, options)] = item.items()
        options_path = (*path, name)
        if options is None:
            options = {}
        if not isinstance(options, dict):
            found = f"{format_key(name)}: {format_value(options)}"
            self._reporter.report(options_path, f"{found} is not a mapping; options, such as {{key: value}}")
            options = {}
        plugin_class = self._plugin_class(kind, name, options_path, at_key=True)
        return self._variants(Entry(kind, name, plugin_class, path, options_path, options))

    def _plugin_class(self, kind: str, name: str, path: KeyPath, *, at_key: bool) -> type[Plugin] | None:
        """Return the plugin class of a name. Report a name that is neither registered nor a member of a family."""
        try:
            return self._find_class(kind, name)
        except UserError as error:  # a family that cannot list its members raises it too
            self._reporter.report(path, single_line(str(error)), at_key=at_key)
            return None

    def _find_class(self, kind: str, name: str) -> type[Plugin]:
        if not name.isprintable() or len(name) > MAX_NAME_LENGTH:
            known = did_you_mean("", self._catalogue.names(kind))
            raise UnknownName(f"unknown {WORDS.get(kind, kind)} {format_value(name)}{known}")
        plugin_class = self._catalogue.get(kind, name)
        if is_family(plugin_class.name):
            if name == plugin_class.name:
                member = name[name.index("<") :]
                raise UnknownName(f"'{name}' names a family; put a member's name for {member}")
            self._catalogue.check_variant(name)
        return plugin_class

    def _variants(self, entry: Entry) -> list[Variant]:
        """Return an entry as labeled variants: one, or one per point of its grid."""
        reserved = RESERVED.get(entry.kind, ())
        label = self._label(entry) if "label" in reserved else entry.name
        options = {key: value for key, value in entry.options.items() if key not in reserved}
        paths = {key: (*entry.options_path, key) for key in options}
        variant = Variant(entry, label, options, paths)
        if "grid" not in reserved or "grid" not in entry.options:
            return [variant]
        grid_path = (*entry.options_path, "grid")
        known = entry.option_names() if entry.plugin_class else None
        points = expand_grid(entry.options["grid"], grid_path, known, options, self._reporter)
        if points is None:
            return [Variant(entry, label, options, paths, complete=False)]
        return [self._at_point(variant, point) for point in points]

    def _at_point(self, variant: Variant, point: tuple[GridValue, ...]) -> Variant:
        """Return a variant with the options of one point of its grid."""
        entry = variant.entry
        values = ",".join(f"{value.option}={value.text}" for value in point)
        label = f"{variant.label}({values})"
        self._check_label(label, entry.path)
        options = variant.options | {value.option: value.value for value in point}
        paths = variant.option_paths | {value.option: value.path for value in point}
        return Variant(entry, label, options, paths)

    def _label(self, entry: Entry) -> str:
        if "label" not in entry.options:
            return entry.name
        label = entry.options["label"]
        self._check_label(label, (*entry.options_path, "label"))
        return str(label)

    def _check_label(self, label: Any, path: KeyPath) -> None:
        valid = isinstance(label, str) and label.isprintable() and label.strip() == label
        if not valid or not 0 < len(label) <= MAX_NAME_LENGTH or "|" in label:
            found = f"label {format_value(label)} cannot stand in a table"
            self._reporter.report(path, f"{found}; 1 to {MAX_NAME_LENGTH} printable characters without '|'")

    def _report_duplicates(self, kind: str, variants: list[Variant]) -> None:
        word = "label"
        remedy = "give this one a 'label' of its own"
        if kind == "observer":
            word = kind
            remedy = "list it once"
        first: dict[str, Variant] = {}
        for variant in variants:
            other = first.setdefault(variant.label, variant)
            if other is not variant and variant.entry.plugin_class:
                position = self._reporter.describe_position(other.entry.path)
                taken = f"{word} {format_value(variant.label)} is taken by the entry at {position}"
                self._reporter.report(variant.entry.path, f"{taken}; {remedy}")
