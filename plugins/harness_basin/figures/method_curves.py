"""Curves of methods: the same plugin with the same options, but for the epoch at which its members part.

A table has one line for each of these methods; a figure has one curve for all of them.
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


class ForkedMethod(NamedTuple):
    """A method on a curve, with its t (None: it has none)."""

    fork_epoch: int | None
    method: str


@dataclass(frozen=True)
class MethodCurve:
    """Methods in order of t. A method without t is alone on its curve.

    `index` is the curve's place among the table's curves. It decides the curve's style, which is the same in every figure.
    """

    label: str
    index: int
    methods: tuple[ForkedMethod, ...]

    @property
    def has_several_fork_epochs(self) -> bool:
        """Whether several t are known."""
        return len({forked.fork_epoch for forked in self.methods}) > 1


class _Family(NamedTuple):
    """What the methods of a curve have in common; `alone` tells apart those that have no t."""

    plugin: str
    options: str
    alone: str


def method_curves(data: FigureData) -> tuple[MethodCurve, ...]:
    """Return the curves of a table in order of first appearance.

    A label that `data.builders` lacks is taken for the name of its plugin, up to a bracket.
    """
    families: dict[_Family, list[ForkedMethod]] = {}
    for method in data.table.methods:
        options = {**_options(method), "M": method.members}
        t = options.pop(FORK_EPOCH, None)
        if type(t) is not int:
            t = None
        plugin = data.builders.get(method.name) or method.name.partition("(")[0]
        family = _Family(plugin, json.dumps(options, sort_keys=True), method.name if t is None else "")
        families.setdefault(family, []).append(ForkedMethod(t, method.name))
    curves = []
    for index, (family, methods) in enumerate(families.items()):
        ordered = sorted(methods, key=lambda forked: forked.fork_epoch or 0)
        curves.append(MethodCurve(_label(family, methods, families), index, tuple(ordered)))
    return tuple(curves)


def entries(table: leaderboard.Table) -> dict[tuple[str, str], leaderboard.Entry]:
    """Return a table's entries by method and metric."""
    found = {}
    for line in table.entries:
        for entry in line:
            found[entry.method, entry.metric] = entry
    return found


def drawable(entry: leaderboard.Entry | None) -> tuple[float, float] | None:
    """Return an entry's mean and standard deviation (0: none is known); None unless an axis can show the mean."""
    if entry is None or entry.mean is None or not drawing.fits_an_axis(entry.mean):
        return None
    std = 0.0
    if entry.std is not None and drawing.fits_an_axis(entry.std):
        std = entry.std
    return entry.mean, std


def seeds_shown(table: leaderboard.Table) -> str:
    """Return the sentence of a caption that says what the error bars are."""
    n = len(table.seeds)
    return f"Mean and standard deviation over {n} seeds." if n > 1 else "One seed, so no spread."


def _options(method: leaderboard.Method) -> dict[str, Any]:
    try:
        options = json.loads(method.options or "{}")
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def _label(family: _Family, methods: Sequence[ForkedMethod], families: Mapping[_Family, Sequence[ForkedMethod]]) -> str:
    """Return a method's own name if it is alone, else its plugin's with the options that tell it from the others'."""
    if len(methods) == 1:
        return methods[0].method
    own = json.loads(family.options)
    others = [json.loads(other.options) for other in families if other.plugin == family.plugin and other != family]
    words = [family.plugin]
    for name, value in own.items():
        if any(other.get(name) != value for other in others):
            words.append(f"{name} = {value}")
    return ", ".join(words)
