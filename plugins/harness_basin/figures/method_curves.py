"""Curves of methods: methods with the same plugin and the same options except for the fork epoch.

A table has one line per method. A figure has one curve for all methods that differ only in the fork epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness import FigureData, drawing, leaderboard

SOURCE = "Lion et al. 2024"
FORK_EPOCH = "fork_epoch"
"""The option that holds t."""

_SIZE = "M"  # of an ensemble, as if it were an option


class ForkedMethod(NamedTuple):
    """A method on a curve. `fork_epoch` is None if the method has none, or if it is not known."""

    fork_epoch: int | None
    method: str


@dataclass(frozen=True)
class MethodCurve:
    """Methods in order of the fork epoch. A method without one is the only method of its curve.

    `style` depends on the method's name and options alone, so it is the same in every figure and report.
    """

    label: str
    style: drawing.CurveStyle
    methods: tuple[ForkedMethod, ...]

    @property
    def has_several_fork_epochs(self) -> bool:
        """Whether the methods have several fork epochs."""
        return len({forked.fork_epoch for forked in self.methods}) > 1


class _Family(NamedTuple):
    """The properties that the methods of a curve share.

    `options` is JSON without the fork epoch. `alone` is the name of a method without a fork epoch, and empty otherwise.
    """

    plugin: str
    options: str
    alone: str


def method_curves(data: FigureData) -> tuple[MethodCurve, ...]:
    """Return the curves of a table in order of first appearance.

    A method that is not in `data.builders` is assumed to have a label that starts with the plugin's name, up to a bracket.
    """
    families: dict[_Family, list[ForkedMethod]] = {}
    for method in data.table.methods:
        options = {**_options(method), _SIZE: method.members}
        fork_epoch = options.pop(FORK_EPOCH, None)
        alone = ""
        if type(fork_epoch) is not int:
            fork_epoch = None
            alone = method.name
        plugin = data.builders.get(method.name) or method.name.partition("(")[0]
        family = _Family(plugin, json.dumps(options, sort_keys=True), alone)
        families.setdefault(family, []).append(ForkedMethod(fork_epoch, method.name))
    curves = []
    for family, methods in families.items():
        ordered = sorted(methods, key=lambda forked: forked.fork_epoch or 0)
        style = drawing.method_style(_style_name(family, ordered))
        curves.append(MethodCurve(_label(family, methods, families), style, tuple(ordered)))
    return tuple(curves)


def entries(table: leaderboard.Table) -> dict[tuple[str, str], leaderboard.Entry]:
    """Return a table's entries by method and metric."""
    found = {}
    for line in table.entries:
        for entry in line:
            found[entry.method, entry.metric] = entry
    return found


def drawable(entry: leaderboard.Entry | None) -> tuple[float, float] | None:
    """Return an entry's mean and standard deviation, or None if an axis cannot show the mean.

    An unknown standard deviation, or one that an axis cannot show, is 0.
    """
    if entry is None or entry.mean is None or not drawing.fits_an_axis(entry.mean):
        return None
    std = 0.0
    if entry.std is not None and drawing.fits_an_axis(entry.std):
        std = entry.std
    return entry.mean, std


def seeds_shown(table: leaderboard.Table) -> str:
    """Return the sentence of a caption that describes the error bars."""
    n = len(table.seeds)
    if n > 1:
        return f"Mean and standard deviation over {n} seeds."
    return "One seed, so no spread."


def _options(method: leaderboard.Method) -> dict[str, Any]:
    """Return a method's options, or no options if they are not a JSON object."""
    try:
        options = json.loads(method.options or "{}")
    except ValueError:
        return {}
    if not isinstance(options, dict):
        return {}
    return options


def _style_name(family: _Family, methods: Sequence[ForkedMethod]) -> str:
    """Return the name that determines a curve's style: the only method's, or else the plugin's with its options."""
    if len(methods) == 1:
        return methods[0].method
    options = json.loads(family.options)
    del options[_SIZE]
    if not options:
        return family.plugin
    return f"{family.plugin}({json.dumps(options, sort_keys=True)})"


def _label(family: _Family, methods: Sequence[ForkedMethod], families: Mapping[_Family, Sequence[ForkedMethod]]) -> str:
    """Return the name of a single method, or else the plugin's name with the options that differ from its other families."""
    if len(methods) == 1:
        return methods[0].method
    own = json.loads(family.options)
    others = []
    for other in families:
        if other.plugin == family.plugin and other != family:
            others.append(json.loads(other.options))
    words = [family.plugin]
    for name, value in own.items():
        if any(options.get(name) != value for options in others):
            words.append(f"{name} = {value}")
    return ", ".join(words)
