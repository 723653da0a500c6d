"""Rows with a place in their name, such as `pairwise_curve/0-1/0.25`, by method, seed and place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness import FigureData, drawing

MOST_PANELS = 12
"""Most methods that a figure with a panel for each shows."""

Place = tuple[float, ...]
BySeed = dict[int, dict[Place, float]]


def values_by_place(data: FigureData, name: str, length: int = 0) -> dict[str, BySeed]:
    """Return the values of rows `<name>/<number>/<number>…` by method, seed and place, in the table's order of methods.

    `length` is the number of numbers in a place (0: any). NaN and infinite values are included. Methods without such rows are
    left out.
    """
    done = data.rows[(data.rows["status"] == "done") & data.rows["metric"].str.startswith(f"{name}/")]
    found: dict[str, BySeed] = {}
    for method in data.table.methods:
        found[method.name] = {}
    for method, seed, metric, value in zip(done["method"], done["seed"], done["metric"], done["value"]):
        place = parse_place(str(metric)[len(name) + 1 :])
        if place and length in (0, len(place)):
            found.setdefault(str(method), {}).setdefault(int(seed), {})[place] = float(value)
    return {method: by_seed for method, by_seed in found.items() if by_seed}


def parse_place(text: str) -> Place:
    """Return the numbers of a place; none if the text is no place. Pairs of members have a dash: `0-1/0.5`."""
    numbers = []
    for part in text.split("/"):
        pair = part.split("-")
        pieces = [part]
        if len(pair) == 2 and all(piece.isdecimal() for piece in pair):
            pieces = pair
        for piece in pieces:
            try:
                number = float(piece)
            except ValueError:
                return ()
            if not math.isfinite(number):
                return ()
            numbers.append(number)
    return tuple(numbers)


def mean_over_seeds(by_seed: Mapping[int, Mapping[Place, float]]) -> dict[Place, float]:
    """Return the mean over seeds of the values that an axis can show, at each place that has one."""
    values: dict[Place, list[float]] = {}
    for places in by_seed.values():
        for place, value in places.items():
            if drawing.fits_an_axis(value):
                values.setdefault(place, []).append(value)
    return {place: sum(found) / len(found) for place, found in values.items()}


def seeds_sentence(by_method: Mapping[str, Mapping[int, object]]) -> str:
    """Return the sentence of a caption about the seeds of a mean."""
    seeds = set().union(*by_method.values())
    if len(seeds) == 1:
        return "One seed."
    return f"Mean over {len(seeds)} seeds."
