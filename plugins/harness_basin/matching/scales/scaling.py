"""Align the scales of a network's hidden units to another network's: the least L2 distance over positive factors.

The inner product of the weights, which permutations maximize, is unbounded over factors; the distance is not. Coordinate
descent visits the groups of scales in turn and minimizes exactly over all factors of a group (`scale_steps.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness import StateDict, TaskFailed
from harness_basin.matching.linear.linear_groups import Elements, LinearGroup, identity_elements
from harness_basin.matching.scales.scale_steps import Coefficients, Vector, best_factors
from harness_basin.matching.scales.scale_tables import ScaledTable, scaled_tables

STILL = 1e-11
"""A sweep in which no factor changes by more, relative, is the last one."""


@dataclass(frozen=True)
class Scaling:
    """Factors that bring one network's weights close to another's, and the squared distance at the start and per sweep.

    The distance is over the weights that the scales move.
    """

    elements: Elements
    trace: tuple[float, ...]

    @property
    def sweeps(self) -> int:
        """The number of sweeps."""
        return len(self.trace) - 1


def align_scales(
    groups: Sequence[LinearGroup], reference: StateDict, other: StateDict, counted: Collection[str], *, max_sweeps: int = 1000
) -> Scaling:
    """Return the factors of the other network's units with the least squared distance to the reference.

    `counted` names the weights that count. The descent starts at factors of 1, and the distance never rises. It may end in a
    local minimum. Raise `TaskFailed` for weights that are not finite.
    """
    tables = scaled_tables(groups, reference, other, counted)
    distance = sum(table.distance for table in tables)
    if not np.isfinite(distance):
        raise TaskFailed(f"scales: the squared distance of the weights is {distance}; have the members diverged?")
    descent = _Descent(groups, tables)
    trace = [distance]
    for sweep in range(max_sweeps):
        fall, largest = descent.sweep(backwards=sweep % 2 == 1)
        trace.append(max(trace[-1] - fall, 0.0))
        if largest <= STILL:
            break
    return Scaling(tuple(map(torch.from_numpy, descent.elements)), tuple(trace))


class _Descent:
    """The factors found so far, and what the next ones depend on."""

    def __init__(self, groups: Sequence[LinearGroup], tables: Sequence[ScaledTable]) -> None:
        self.elements: list[Vector] = [element.numpy() for element in identity_elements(groups)]
        self.tables = [[table for table in tables if table.of(number)] for number in range(len(groups))]
        self.coupled = [any(len(table.of(number)) > 1 for table in own) for number, own in enumerate(self.tables)]

    def sweep(self, *, backwards: bool) -> tuple[float, float]:
        """Visit every group once; return the fall of the squared distance, and the largest |log| of a factor."""
        fall = 0.0
        largest = 0.0
        numbers = range(len(self.elements))
        for number in reversed(numbers) if backwards else numbers:
            if not self.coupled[number]:
                visits = [self._visit(number)]
            else:
                visits = [self._visit(number, unit) for unit in range(self.elements[number].shape[-1])]
            for change, step in visits:
                fall -= change
                largest = max(largest, step)
        return fall, largest

    def _visit(self, number: int, unit: int | None = None) -> tuple[float, float]:
        """Multiply a group's units, or one of them, by the best factors; return the change and the largest |log|."""
        given = self._coefficients(number)
        factors = best_factors(given)
        if unit is not None:
            chosen = np.arange(factors.shape[-1]) == unit
            factors = np.where(chosen, factors, 1.0)
        self.elements[number] = self.elements[number] * factors
        for table in self.tables[number]:
            table.multiply(number, factors)
        return float(given.change(factors).sum()), float(np.abs(np.log(factors)).max())

    def _coefficients(self, number: int) -> Coefficients:
        """Return the coefficients of the distance as a function of each factor of a group."""
        shape = self.elements[number].shape
        sums = {power: (np.zeros(shape), np.zeros(shape)) for power in (1, -1)}
        for table in self.tables[number]:
            for power, (cross, square) in sums.items():
                table.add_sums(number, power, cross, square)
        return Coefficients(a=sums[1][1], b=sums[1][0], c=sums[-1][1], e=sums[-1][0])
