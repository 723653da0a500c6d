"""Variants of entries → plugins with validated options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.api.choice import chosen_kinds, split_choice
from harness.api.options import Options
from harness.benchmark.entries import Variant
from harness.benchmark.format import RESERVED
from harness.benchmark.problems import KeyPath
from harness.benchmark.reporter import ProblemReporter
from harness.benchmark.spec import LabeledPlugin
from harness.benchmark.validation import validate_options
from harness.errors import UserError
from harness.text import describe_error, single_line

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue


class SettingsOption(NamedTuple):
    """An option that a settings block gives to methods."""

    value: Any
    path: KeyPath


class BuiltPlugin(NamedTuple):
    """A plugin, or None with the errors about its entry as a whole."""

    plugin: LabeledPlugin | None
    errors: tuple[str, ...] = ()


class PluginBuilder:
    """Builds plugins and reports invalid options."""

    def __init__(self, catalogue: Catalogue, reporter: ProblemReporter) -> None:
        self._catalogue = catalogue
        self._reporter = reporter

    def build_all(self, variants: Iterable[Variant]) -> tuple[LabeledPlugin, ...]:
        """Return the plugins of the valid variants. Report the errors of the others."""
        plugins = []
        for variant in variants:
            plugin, errors = self.build(variant, {})
            for error in errors:
                self._reporter.report(variant.entry.path, f"{variant.label}: {error}")
            if plugin is not None:
                plugins.append(plugin)
        return tuple(plugins)

    def build(self, variant: Variant, settings: Mapping[str, SettingsOption]) -> BuiltPlugin:
        """Return the plugin of a variant with its options and those of settings. Report invalid options."""
        entry = variant.entry
        if entry.plugin_class is None:
            return BuiltPlugin(None)
        values = {key: option.value for key, option in settings.items()} | variant.options
        paths = {key: option.path for key, option in settings.items()} | variant.option_paths
        options, issues = validate_options(entry.plugin_class.Options, values, RESERVED.get(entry.kind, ()))
        errors = []
        for issue in issues:
            if issue.path:
                key = str(issue.path[0])
                owner = "method_options" if key in settings else entry.name
                self._reporter.report_issue(issue, (*paths[key], *issue.path[1:]), owner)
            else:
                errors.append(issue.text)
        if not variant.complete:
            return BuiltPlugin(None)
        if options is None:
            return BuiltPlugin(None, tuple(errors))
        if not self._check_chosen(entry.name, options, paths):
            return BuiltPlugin(None)
        try:
            plugin = self._catalogue.create(entry.kind, entry.name, options)
            _ = plugin.identity  # raises ValueError for an option that cannot be part of a key
        except (ValueError, UserError) as error:
            return BuiltPlugin(None, (single_line(str(error)),))
        except Exception as error:  # a plugin may raise anything
            return BuiltPlugin(None, (f"it cannot be made: {describe_error(error)}",))
        return BuiltPlugin(LabeledPlugin(variant.label, plugin))

    def _check_chosen(self, owner: str, options: Options, paths: Mapping[str, KeyPath]) -> bool:
        """Report options that name an unknown plugin, or give it options that do not fit. Return whether all are valid."""
        valid = True
        for option, kind in chosen_kinds(type(options)).items():
            choice = getattr(options, option)
            if choice is None or option not in paths:
                continue
            path = paths[option]
            try:
                name, values = split_choice(choice)
                _, issues = validate_options(self._catalogue.choice_class(kind, name).Options, dict(values))
            except (ValueError, UserError) as error:
                self._reporter.report(path, f"{owner}.{option}: {single_line(str(error))}")
                valid = False
                continue
            for issue in issues:
                self._reporter.report_issue(issue, (*path, name, *issue.path), f"{owner}.{option}.{name}")
                valid = False
        return valid
