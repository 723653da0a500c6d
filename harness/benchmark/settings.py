"""The settings blocks of a benchmark file, with filters resolved to indices into the file's lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.benchmark.entries import Variant
from harness.benchmark.format import WORDS
from harness.benchmark.formatting import format_value
from harness.benchmark.problems import KeyPath
from harness.benchmark.reporter import ProblemReporter
from harness.errors import UnknownName, did_you_mean

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue

Indices = frozenset[int]


@dataclass(frozen=True)
class ResolvedBlock:
    """A settings block: the indices of the datasets and architectures to which it applies, and its changes."""

    path: KeyPath
    datasets: Indices
    architectures: Indices
    methods: Indices | None  # those that run there; None: no change
    recipe: dict[str, Any]
    method_options: dict[str, Any]


class SettingsReader:
    """Reads settings blocks and reports unknown names and options."""

    def __init__(self, variants: Mapping[str, list[Variant]], catalogue: Catalogue, reporter: ProblemReporter) -> None:
        self._catalogue = catalogue
        self._reporter = reporter
        self._meanings = {kind: _meanings(listed) for kind, listed in variants.items()}
        self._all = {kind: frozenset().union(*meanings.values()) for kind, meanings in self._meanings.items()}
        methods = [variant.entry for variant in variants["ensemble_builder"]]
        self._all_methods_known = bool(methods) and all(entry.plugin_class for entry in methods)
        self._options: set[str] = set()
        for entry in methods:
            self._options.update(entry.option_names())
        self._registered_options: set[str] = set()
        for name in catalogue.names("ensemble_builder"):
            self._registered_options.update(catalogue.get("ensemble_builder", name).Options.model_fields)

    def read(self, settings: Any) -> list[ResolvedBlock]:
        """Return the blocks of a file's `settings`."""
        blocks: list[ResolvedBlock] = []
        if not isinstance(settings, list):
            return blocks
        for index, block in enumerate(settings):
            if isinstance(block, dict):
                blocks.append(self._read_block(block, ("settings", index)))
        return blocks

    def _read_block(self, block: dict[str, Any], path: KeyPath) -> ResolvedBlock:
        if all(block.get(key) in (None, {}) for key in ("recipe", "method_options", "methods")):
            text = "this block of settings sets nothing; give it a recipe, method_options or methods"
            self._reporter.report(path, text)
        method_options = _mapping(block.get("method_options"))
        self._check_options(method_options, (*path, "method_options"))
        methods = None
        if block.get("methods") is not None:
            methods = self._select("ensemble_builder", block["methods"], (*path, "methods"))
        return ResolvedBlock(
            path=path,
            datasets=self._select("dataset", block.get("dataset"), (*path, "dataset")),
            architectures=self._select("architecture", block.get("architecture"), (*path, "architecture")),
            methods=methods,
            recipe=_mapping(block.get("recipe")),
            method_options=method_options,
        )

    def _check_options(self, options: Iterable[str], path: KeyPath) -> None:
        """Report options that no registered method has. Options of methods outside the file are accepted."""
        if not self._all_methods_known:
            return
        for key in options:
            if key not in self._options and key not in self._registered_options:
                text = f"no method of this file has an option {format_value(key)}{did_you_mean(key, self._options)}"
                self._reporter.report((*path, key), text, at_key=True)

    def _select(self, kind: str, selection: Any, path: KeyPath) -> Indices:
        """Return the indices of the variants that a filter selects; without a filter, all.

        A registered name that the file does not list selects none, since `--set` may have removed it from the list. Report an
        unknown name.
        """
        if selection is None:
            return self._all[kind]
        if isinstance(selection, str):
            return self._meaning(kind, selection, path)
        selected: set[int] = set()
        if isinstance(selection, list):
            for index, name in enumerate(selection):
                if isinstance(name, str):
                    selected |= self._meaning(kind, name, (*path, index))
        return frozenset(selected)

    def _meaning(self, kind: str, name: str, path: KeyPath) -> Indices:
        meanings = self._meanings[kind]
        if meanings and name not in meanings and not self._is_registered(kind, name):
            word = WORDS.get(kind, kind)
            text = f"no {word} of this file is called {format_value(name)}{did_you_mean(name, meanings)}"
            self._reporter.report(path, text)
        return meanings.get(name, frozenset())

    def _is_registered(self, kind: str, name: str) -> bool:
        try:
            self._catalogue.get(kind, name)
        except UnknownName:
            return False
        return True


def _mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, and an empty mapping otherwise."""
    return value if isinstance(value, dict) else {}


def _meanings(variants: list[Variant]) -> dict[str, Indices]:
    """Return the indices that each name selects: the variant with that label, else all variants with that registered name."""
    by_name: dict[str, list[int]] = {}
    for index, variant in enumerate(variants):
        by_name.setdefault(variant.entry.name, []).append(index)
    meanings = {name: frozenset(indices) for name, indices in by_name.items()}
    for index, variant in enumerate(variants):
        meanings[variant.label] = frozenset({index})
    return meanings
