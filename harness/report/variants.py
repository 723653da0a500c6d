"""Methods that are one method: the same plugin with the same options but for the epoch at which its members part.

A table has a line for each of them; a figure has one curve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.leaderboard import Entry, Method, Table
from harness.report.drawing import fits_an_axis

FORK_EPOCH = "fork_epoch"
"""The option that holds t."""


class Stop(NamedTuple):
    """A method on a curve, with its t (None: it has none)."""

    fork_epoch: int | None
    method: str


@dataclass(frozen=True)
class Variant:
    """A curve: methods in order of t. A method without t is alone on its own.

    `index` is its place among the table's curves, which decides how it looks, in every figure alike.
    """

    label: str
    index: int
    stops: tuple[Stop, ...]

    @property
    def is_curve(self) -> bool:
        """Whether several t are known."""
        return len({stop.fork_epoch for stop in self.stops}) > 1


class _Family(NamedTuple):
    """What the methods of a curve have in common; `alone` tells apart those that have no t."""

    plugin: str
    options: str
    alone: str


def variants(table: Table, plugins: Mapping[str, str]) -> tuple[Variant, ...]:
    """Return the curves of a table in order of first appearance.

    `plugins` says which plugin a method's label stands for; of one that it lacks, the label up to a bracket is taken.
    """
    found: dict[_Family, list[Stop]] = {}
    for method in table.methods:
        options = {**_options(method), "M": method.members}
        t = options.pop(FORK_EPOCH, None)
        t = t if type(t) is int else None
        plugin = plugins.get(method.name) or method.name.partition("(")[0]
        family = _Family(plugin, json.dumps(options, sort_keys=True), method.name if t is None else "")
        found.setdefault(family, []).append(Stop(t, method.name))
    curves = {family: tuple(sorted(stops, key=lambda stop: stop.fork_epoch or 0)) for family, stops in found.items()}
    return tuple(Variant(_label(family, stops, curves), i, stops) for i, (family, stops) in enumerate(curves.items()))


def entries(table: Table) -> dict[tuple[str, str], Entry]:
    """Return a table's entries by method and metric."""
    return {(entry.method, entry.metric): entry for line in table.entries for entry in line}


def drawable(entry: Entry | None) -> tuple[float, float] | None:
    """Return an entry's mean and standard deviation (0: none is known); None unless the mean is finite."""
    if entry is None or entry.mean is None or not fits_an_axis(entry.mean):
        return None
    return entry.mean, entry.std if entry.std is not None and fits_an_axis(entry.std) else 0.0


def _options(method: Method) -> dict[str, Any]:
    try:
        options = json.loads(method.options or "{}")
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def _label(family: _Family, stops: Sequence[Stop], curves: Mapping[_Family, Sequence[Stop]]) -> str:
    """Return a method's own name if it is alone, else its plugin's with the options that tell it from the others'."""
    if len(stops) == 1:
        return stops[0].method
    own = json.loads(family.options)
    others = [json.loads(other.options) for other in curves if other.plugin == family.plugin and other != family]
    apart = [name for name, value in own.items() if any(other.get(name) != value for other in others)]
    return ", ".join([family.plugin, *(f"{name} = {own[name]}" for name in apart)])
